"""Finds what fell through: lost leases, lost doorbells, due callbacks.

A round's work is bounded; several sweepers are safe.
It runs in the callback process, which needs no engine, so it goes on while every scorer is down.
"""

import logging
import threading
import time

from jobs.ending import Ending
from jobs.errors import Expired, Poisoned, StoreUnavailable
from jobs.model import Failure
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store
from worker.counts import Counts

log = logging.getLogger(__name__)

AT_MOST = 500
"""Entries of each kind that one round handles."""


MENDED = ("lease_lost", "poisoned", "expired", "announced_again")
"""What a sweeper counts. A job whose lease was lost is announced again too."""


class Sweeper:
    def __init__(self, store: Store, doorbell: Doorbell, settings: Settings) -> None:
        self._store = store
        self._doorbell = doorbell
        self._settings = settings
        self._ending = Ending(store, doorbell, settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._patient_until = 0.0
        self._rung: dict[tuple[str, str], int] = {}
        self.mended = Counts(MENDED)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        every, lease = self._settings.jobs.sweep, self._settings.jobs.lease.total_seconds()
        while True:
            due = time.time() + every.total_seconds()  # the leases' clock too: one that jumps is as bad
            if self._stop.wait(every.total_seconds()):
                return
            late = time.time() - due
            if late > lease / 3:
                # So did workers, perhaps, and could not renew.
                log.warning("stood still, or the clock was set, for %.1f s: leases have one lease more", late)
                self._patient_until = time.monotonic() + lease
            try:
                self.sweep()
            except StoreUnavailable as error:
                # Workers could not renew either: they have one lease before anything is taken back.
                log.warning("nothing swept: %s", error)
                self._patient_until = time.monotonic() + lease
            except Exception:  # the sweeper is the recovery path: it goes on
                log.exception("a round of the sweeper failed")

    def sweep(self) -> None:
        """One round."""
        self.expire()
        if time.monotonic() >= self._patient_until:
            self.take_back()
        self.ring_again()
        self.ring_for_callbacks()
        self._store.forget(AT_MOST)

    def expire(self) -> None:
        """Jobs whose deadline has passed end, unless they have started in time or ended meanwhile."""
        for job_id, before in self._store.expired(AT_MOST):
            job = self._store.get(job_id)
            if job is not None:
                what = "start" if before is JobState.QUEUED else "end"
                why = Failure(
                    code=Expired.code, message=f"it did not {what} within the time that was asked for"
                )
                ended = self._ending.of_job(job, JobState.EXPIRED, why, generation=None, before=before)
                if ended is Outcome.OK:
                    self.mended.add("expired")

    def take_back(self) -> None:
        """Jobs whose lease has ended go back to their queue, charged; after too many, they fail as poison."""
        for lost in self._store.overdue(AT_MOST):
            # A suspect runs alone: if the engine was not given it, it only waited beside another one.
            charge = lost.attempts == 0 or lost.inside
            if charge and lost.attempts + 1 >= self._settings.jobs.max_attempts:
                self._poison(lost.job_id, lost.generation, lost.attempts + 1)
            elif self._store.release(lost.job_id, lost.generation, charge=charge) is Outcome.OK:
                log.warning("lease lost: %s (generation %d) is queued again", lost.job_id, lost.generation)
                self.mended.add("lease_lost")
                self._announce(lost.job_id)

    def ring_again(self) -> None:
        """Announces what was never announced, what later jobs have overtaken, and the oldest of a lane whose
        list of messages is empty.

        A lane's list that is empty while jobs wait has lost its messages: but only if it stays so for two
        rounds, since a worker takes a message a moment before it claims the job.
        """
        for job_id in self._store.unannounced(self._settings.jobs.announce_after, AT_MOST):
            self._announce(job_id)
        for model, lane in self._store.lanes():
            for job_id in self._store.overtaken(model, lane, self._settings.jobs.announce_after, AT_MOST):
                log.warning("overtaken: %s is announced again", job_id)
                self._announce(job_id)
            waiting = self._store.waiting(model, lane, AT_MOST)
            silent = bool(waiting) and self._doorbell.ringing(model, lane) == 0
            rounds = self._rung.get((model, lane), 0) + 1 if silent else 0
            self._rung[model, lane] = rounds
            if rounds >= self._silent_rounds:
                self._rung[model, lane] = 0
                for job_id in waiting:
                    self._announce(job_id)

    @property
    def _silent_rounds(self) -> int:
        jobs = self._settings.jobs
        return max(2, round(jobs.announce_after / jobs.sweep))

    def ring_for_callbacks(self) -> None:
        for job_id in self._store.due_callbacks(self._settings.callbacks.hold, AT_MOST):
            self._doorbell.announce_callback(job_id)

    def _announce(self, job_id: str) -> None:
        job = self._store.get(job_id)
        if job is not None and job.state is JobState.QUEUED:
            self._doorbell.announce(job_id, job.model, job.lane)
            self.mended.add("announced_again")
        self._store.announced([job_id])

    def _poison(self, job_id: str, generation: int, attempts: int) -> None:
        job = self._store.get(job_id)
        if job is not None:
            why = Failure(code=Poisoned.code, message=f"{attempts} workers were lost with it")
            if self._ending.of_job(job, JobState.FAILED, why, generation=generation) is Outcome.OK:
                log.error("poison: %s is failed after %d attempts", job_id, attempts)
                self.mended.add("poisoned")
