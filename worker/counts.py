"""What a worker has done since it started, counted by kind. Its heartbeats tell; `GET /metrics` shows."""

import threading
from collections.abc import Iterable


class Counts:
    """Thread-safe. Every kind is there from the start: a rate does not see a counter's first event if that
    made it.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._found = dict.fromkeys(kinds, 0)

    def add(self, kind: str) -> None:
        """Raises `KeyError` for a kind that was not announced."""
        with self._lock:
            self._found[kind] += 1

    def all(self) -> dict[str, int]:
        with self._lock:
            return dict(self._found)
