"""Keeps the leases of the jobs in hand alive: one thread for all of them."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from jobs.errors import StoreUnavailable
from jobs.model import Claim
from jobs.states import Outcome
from jobs.store import Store

log = logging.getLogger(__name__)


class Leases:
    """Renews every lease three times in its length, with the job's progress."""

    def __init__(self, store: Store, lease: timedelta) -> None:
        self._store = store
        self._lease = lease
        self._held: dict[tuple[str, int], Callable[[], int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    @contextmanager
    def held(self, claim: Claim, scored: Callable[[], int]) -> Iterator[None]:
        """Renews the lease of `claim` while the block runs."""
        key = (claim.job_id, claim.generation)
        with self._lock:
            self._held[key] = scored
        try:
            yield
        finally:
            with self._lock:
                del self._held[key]

    def _run(self) -> None:
        while not self._stop.wait((self._lease / 3).total_seconds()):
            with self._lock:
                held = list(self._held.items())
            for (job_id, generation), scored in held:
                try:
                    outcome = self._store.renew(job_id, generation, self._lease, scored())
                except StoreUnavailable as error:
                    log.warning("leases can't be renewed: %s", error)
                    break
                if outcome is not Outcome.OK:
                    log.info("lease of %s (generation %d) is gone: %s", job_id, generation, outcome)
