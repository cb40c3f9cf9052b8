"""Celery's events, which Flower reads: published together a few times a second, and not one by one.

Of what a worker itself spends on a job, its three events were more than a quarter.
"""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

EVERY = 0.2
"""Seconds. A full buffer (24 events) is published at once."""


class EventsTogether(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer, started again with each new connection."""

    requires = (Events,)

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        dispatcher.on_send_buffered = None  # which publishes at each turn of the loop
        self._timer = consumer.timer.call_repeatedly(EVERY, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        self._timer.cancel()
        if consumer.event_dispatcher:
            consumer.event_dispatcher.flush()
