"""A doorbell's message: Celery makes one for each queue, once; each job's is that with its ids in it.

Celery and Kombu need 0.7 ms of a core for a message, most of it for what is alike in all of them.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from celery import Celery
from kombu import Connection

JOB, TASK, TAG, BODY = "@job@", "@task@", "@tag@", "@body@"
"""What stands in a blank message where the ids and the body go."""


class Message(NamedTuple):
    """What is pushed into the list `queue`."""

    queue: str
    text: str


@dataclass(frozen=True)
class Blank:
    """The message in the form in which Kombu keeps it in Redis, a queue being a list; and its body."""

    message: str
    body: str

    def filled(self, job_id: str, task_id: str) -> str:
        """For one job. A message's tag is its own: the same job may be announced twice."""
        body = b64encode(self.body.replace(JOB, job_id).encode()).decode()
        filled = self.message.replace(JOB, job_id).replace(TASK, task_id)
        return filled.replace(TAG, str(uuid4())).replace(BODY, body)


def blank(app: Celery, task: str, queue: str) -> Blank:
    """What Celery sends for `task` with a job's id, caught in Kombu's transport in memory."""
    with Connection("memory://") as connection:
        app.send_task(task, args=[JOB], task_id=TASK, queue=queue, connection=connection)
        caught = connection.default_channel._get(queue)
    body = b64decode(caught["body"]).decode()
    caught["body"] = BODY
    caught["properties"]["delivery_tag"] = TAG
    return Blank(json.dumps(caught), body)
