"""Step 8, for all who end jobs: the worker with a result, the sweeper and the API without one."""

import logging
from dataclasses import dataclass

from jobs import callback
from jobs.errors import PodiumError, Poisoned, ScoringFailed, StoreUnavailable
from jobs.model import CallbackTarget, Failure, Job, Result
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store

log = logging.getLogger(__name__)

REDRIVABLE = frozenset({Poisoned.code, ScoringFailed.code, PodiumError.code})
"""Failures that were not the caller's: their documents are kept, so that the job can be run again."""


@dataclass(frozen=True)
class Ending:
    store: Store
    doorbell: Doorbell
    settings: Settings

    def of_job(
        self,
        job: Job,
        state: JobState,
        why: Failure,
        *,
        generation: int | None,
        before: JobState | None = None,
    ) -> Outcome:
        """Ends `job` without a result. `generation` None: whoever has it; `before`: only from that state."""
        return self.of(job.id, generation, state, why, job.callback, job.metadata, before=before)

    def of(
        self,
        job_id: str,
        generation: int | None,
        state: JobState,
        end: Result | Failure,
        target: CallbackTarget | None,
        metadata: object,
        *,
        before: JobState | None = None,
    ) -> Outcome:
        """Stores the end and makes the callback due, all in one script; then rings for the callback.

        Raises `StoreUnavailable` if nothing was stored. A lost ring is the sweeper's to repeat.
        """
        body = ""
        if target is not None:
            url = self.settings.job_url(job_id)
            body = callback.body(job_id, state, end, target, url, metadata)
        outcome = self.store.finish(
            job_id,
            generation,
            state,
            end,
            before=before,
            callback_body=body,
            callback_ttl=self.settings.callbacks.record_ttl,
            callback_after=self.settings.callbacks.hold,
            keep_work=isinstance(end, Failure) and end.code in REDRIVABLE,
        )
        if outcome is Outcome.OK and body:
            try:
                self.doorbell.announce_callback(job_id)
            except StoreUnavailable as error:  # the job has ended all the same
                log.warning("the callback of %s is due, not announced: %s", job_id, error)
        return outcome
