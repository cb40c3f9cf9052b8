"""Tells the store that a worker lives and what it serves: readiness and `podium up` look there."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from jobs.errors import StoreUnavailable
from jobs.store import Store

log = logging.getLogger(__name__)

BEAT = timedelta(seconds=2)


class Heartbeat:
    """Writes `about()` every two seconds; three missed beats and the worker counts as gone."""

    def __init__(self, store: Store, worker: str, about: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self.worker = worker
        self._about = about
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The worker is seen as gone at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._store.retire(self.worker)
        except StoreUnavailable:
            log.info("no Redis to say goodbye to: the heartbeat runs out by itself")

    def _run(self) -> None:
        while True:
            try:
                self._store.heartbeat(self.worker, self._about(), BEAT * 3)
            except StoreUnavailable as error:
                log.warning("no heartbeat: %s", error)
            if self._stop.wait(BEAT.total_seconds()):
                return
