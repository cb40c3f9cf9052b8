"""Step 8, for all who end jobs: the worker with a result, the sweeper and the API without one."""

from dataclasses import dataclass

from jobs import callback
from jobs.model import CallbackTarget, Failure, Job, Result
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store


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

        Raises `StoreUnavailable`. A lost ring is the sweeper's to repeat.
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
        )
        if outcome is Outcome.OK and body:
            self.doorbell.announce_callback(job_id)
        return outcome
