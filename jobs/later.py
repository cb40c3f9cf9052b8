"""Small things that may be done a little later are done together: one call for all of them."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Later(Generic[T]):
    """Gives items to `do` in lists, `after` seconds from the first one, in a thread of its own. Thread-safe.

    What waits is lost with the process, and what `do` raises is logged: it is for what may be lost.
    """

    def __init__(self, what: str, do: Callable[[list[T]], object], after: float) -> None:
        self._what, self._do, self._after = what, do, after
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[T] = []

    def add(self, item: T) -> None:
        with self._lock:
            self._waiting.append(item)
            first = len(self._waiting) == 1
        if first:
            timer = threading.Timer(self._after, self.flush)
            timer.daemon = True
            timer.start()

    def flush(self) -> None:
        """Does now what waits."""
        with self._turn:  # one call at a time, in the order of the items
            with self._lock:
                waiting, self._waiting = self._waiting, []
            try:
                if waiting:
                    self._do(waiting)
            except (OperationalError, RedisError) as error:
                log.warning("%d of %s are lost: %s", len(waiting), self._what, error)
