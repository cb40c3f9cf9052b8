"""Step 3, and what else a caller does to a job: it is stored and announced, looked at, taken back."""

from api.admission import room
from jobs.async_store import AsyncStore
from jobs.ending import Ending
from jobs.errors import (
    AlreadyEnded,
    Cancelled,
    IdempotencyConflict,
    JobErased,
    JobNotFound,
    NotEnded,
)
from jobs.model import Failure, Job, NewJob
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store


async def accept(job: NewJob, jobs: AsyncStore, doorbell: Doorbell, settings: Settings) -> tuple[str, Job]:
    """The job's id, and what is to be seen of it: stored and announced in one step.

    The id of another job, if the idempotency key has made that before.
    """
    created = await jobs.create(job, room(settings), doorbell.message(job.id, job.model, job.lane))
    if created is Outcome.REFUSED:  # the answer was lost with its connection, and the client asked again
        return job.id, owned(await jobs.get(job.id), job.id, job.owner)
    if isinstance(created, Outcome):
        raise IdempotencyConflict("this Idempotency-Key was used for another request: use a new one")
    if not isinstance(created, Job):
        try:
            return created, owned(await jobs.get(created), created, job.owner)
        except JobNotFound:
            gone = f"this Idempotency-Key made the job {created}, which is no longer kept"
            raise JobErased(gone) from None
    doorbell.told(job.id, job.model, job.lane)
    return job.id, created


def owned(job: Job | None, job_id: str, owner: str) -> Job:
    """The job that was found, if it is the caller's. Raises `JobNotFound`."""
    if job is None or job.owner != owner:
        raise no_such(job_id)
    return job


def no_such(job_id: str) -> JobNotFound:
    """Another caller's job is not told from one that does not exist."""
    return JobNotFound(f"there is no job {job_id}, or its result has expired")


def erase(job_id: str, owner: str, store: Store) -> None:
    """Forgets a job that has ended. Raises `JobNotFound`, `NotEnded`."""
    match store.erase(job_id, owner):
        case Outcome.MISSING:
            raise no_such(job_id)
        case Outcome.REFUSED:
            raise NotEnded("the job has not ended: cancel it first")


def cancel_job(job_id: str, owner: str, store: Store, ending: Ending) -> None:
    """Ends a job that its caller no longer wants. Raises `JobNotFound`, `AlreadyEnded`."""
    job = owned(store.get(job_id), job_id, owner)
    why = Failure(code=Cancelled.code, message="the caller cancelled it")
    if ending.of_job(job, JobState.CANCELLED, why, generation=None) is not Outcome.OK:
        ended = store.get(job_id)
        raise AlreadyEnded(f"the job is {ended.state.value if ended else 'gone'}: nothing was cancelled")
