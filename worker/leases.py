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

ONE_SECOND = timedelta(seconds=1)


@dataclass
class Progress:
    """What a job's lease needs to know of its work, and the work of its lease."""

    scored: Callable[[], int] = int  # how many documents have their score: 0, until there is something to ask
    drop: Callable[[], None] = lambda: None  # called when the lease is gone
    lost: bool = False


class Leases:
    """Renews every lease three times in its length, and at least each second, with the job's progress.

    A renewal that is refused is how a worker learns that its job was cancelled, has expired or was lost.
    """

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
        while not self._stop.wait(min(self._lease / 3, ONE_SECOND).total_seconds()):
            with self._lock:
                held = dict(self._held)
            if not held:
                continue
            asked = [(*key, progress.scored()) for key, progress in held.items()]
            try:
                outcomes = self._store.renew(asked, self._lease)
            except StoreUnavailable as error:
                log.warning("leases can't be renewed: %s", error)
                continue
            for key, outcome in zip(held, outcomes, strict=True):
                if outcome is not Outcome.OK:
                    log.info("lease of %s (generation %d) is gone: %s", *key, outcome)
                    held[key].lost = True
                    held[key].drop()
