"""Which of a worker's queues is asked for the next message: places are kept free for interactive jobs.

A job holds one of the worker's threads from its claim to its end. With two plain queues a backlog of bulk
jobs takes all of them, and who waits for an answer stands behind it.
"""

from celery.worker import state
from kombu.utils.scheduling import priority_cycle

from jobs.model import Lane
from jobs.queue import lane_of


class InteractiveFirst(priority_cycle):  # type: ignore[misc]
    """Kombu's order of queues. `consume` is called before each fetch of one message."""

    def __init__(self, bulk_places: int) -> None:
        super().__init__()
        self._bulk_places = bulk_places

    def consume(self, n: int) -> list[str]:
        """Who may give the next message: interactive queues first, bulk ones while places are left."""
        queues: list[str] = self.items[:n]
        bulk = [queue for queue in queues if lane_of(queue) is Lane.BULK]
        others = [queue for queue in queues if queue not in bulk]
        return [*others, *bulk] if _bulk_in_hand() < self._bulk_places else others


def _bulk_in_hand() -> int:
    """By Celery's own list of what was received and has not ended."""
    return sum(
        lane_of(request.delivery_info.get("routing_key") or "") is Lane.BULK
        for request in list(state.reserved_requests)
    )
