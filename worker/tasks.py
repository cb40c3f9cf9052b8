"""Celery's side of a job: thin. A row in Flower is a job, and its state there says how it ended."""

from collections.abc import Callable

from celery import Celery
from celery.exceptions import Reject, Retry

from jobs import queue
from jobs.errors import StoreUnavailable
from worker.counts import Counts
from worker.runner import Ended


class JobFailed(Exception):
    """The job has ended as failed; the store has its error."""


def register_score(app: Celery, run: Callable[[str], Ended], counts: Counts) -> None:
    """`counts`: of how jobs were left, by the names of `Ended`."""

    @app.task(name=queue.SCORE)  # type: ignore[untyped-decorator]
    def score(job_id: str) -> str:
        try:
            ended = run(job_id)
        except StoreUnavailable as error:
            raise Retry("Redis is away: the lease and the sweeper recover this job") from error
        counts.add(ended.name.lower())
        match ended:
            case Ended.SUCCEEDED:
                return ended.value
            case Ended.FAILED:
                raise JobFailed(job_id)
            case Ended.HANDED_BACK:
                raise Retry(ended.value)  # publishes nothing by itself
            case Ended.NOT_OURS:
                raise Reject(ended.value, requeue=False)


def register_deliver(app: Celery, deliver: Callable[[str], str]) -> None:
    @app.task(name=queue.DELIVER)  # type: ignore[untyped-decorator]
    def deliver_callback(job_id: str) -> str:
        return deliver(job_id)
