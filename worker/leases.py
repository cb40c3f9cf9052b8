"""Keeps the leases of the jobs in hand alive: one thread for all of them."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from jobs.errors import StoreUnavailable
from jobs.model import Claim
from jobs.states import Outcome
from jobs.store import Store

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How many documents of a job have their score."""

    scored: Callable[[], int] = int  # 0, until there is something to ask


class Leases:
    """Renews every lease three times in its length, with the job's progress."""

    def __init__(self, store: Store, lease: timedelta) -> None:
        self._store = store
        self._lease = lease
        self._held: dict[tuple[str, int], Progress] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def held(self, claim: Claim) -> Iterator[Progress]:
        """Renews the lease of `claim` while the block runs."""
        key, progress = (claim.job_id, claim.generation), Progress()
        with self._lock:
            self._held[key] = progress
        try:
            yield progress
        finally:
            with self._lock:
                del self._held[key]

    def _run(self) -> None:
        while not self._stop.wait((self._lease / 3).total_seconds()):
            with self._lock:
                held = list(self._held.items())
            for (job_id, generation), progress in held:
                try:
                    outcome = self._store.renew(job_id, generation, self._lease, progress.scored())
                except StoreUnavailable as error:
                    log.warning("leases can't be renewed: %s", error)
                    break
                if outcome is not Outcome.OK:
                    log.info("lease of %s (generation %d) is gone: %s", job_id, generation, outcome)
