"""What Flower knows of a job before a worker has it: Celery's event `task-sent`.

Celery's own setting for it publishes each by itself, which was an eighth of the API's cost of a job.
"""

import time
from typing import Any, NamedTuple

from celery import Celery

from jobs.later import Later

EVERY = 0.2
"""Seconds that an event may wait for others."""

AT_ONCE = 500
"""Events that one message may have."""


class Sent(NamedTuple):
    task: str
    job_id: str
    task_id: str
    queue: str
    at: float
    """Unix seconds."""


class SentEvents:
    """Thread-safe. Events are lost with the process, or while Redis is away: they only serve to be seen."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._dispatcher: Any = None
        self._later = Later("Celery's events", self._publish, EVERY)

    def tell(self, task: str, job_id: str, task_id: str, queue: str) -> None:
        self._later.add(Sent(task, job_id, task_id, queue, time.time()))

    def _publish(self, sent: list[Sent]) -> None:
        if self._dispatcher is None:
            connection = self._app.connection_for_write()
            self._dispatcher = self._app.events.Dispatcher(
                connection, buffer_group=["task"], buffer_limit=AT_ONCE
            )
        for each in sent:
            self._dispatcher.send(
                "task-sent",
                uuid=each.task_id,
                root_id=each.task_id,
                parent_id=None,
                name=each.task,
                args=f"('{each.job_id}',)",
                kwargs="{}",
                retries=0,
                eta=None,
                expires=None,
                queue=each.queue,
                exchange="podium",
                routing_key=each.queue,
                timestamp=each.at,
            )
        self._dispatcher.flush()
