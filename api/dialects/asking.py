"""From a dialect's request to an ended job: accepted, waited for, taken back when nobody waits any more."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import Request

from api.accepting import accept, cancel_job
from api.admission import admit
from api.dialects.lenient import read
from api.schemas import JobRequest
from api.waiting import Waiting
from jobs.ending import Ending
from jobs.errors import AlreadyEnded, JobNotFound, PodiumError, StoreUnavailable
from jobs.model import Job, RankedDocument, Result
from jobs.settings import Settings
from jobs.states import JobState
from jobs.store import Store


class TookTooLong(PodiumError):
    """The job had not ended when its caller could wait no longer. It was cancelled."""

    code = "timeout"
    retryable = True


class Unscored(PodiumError):
    """A document has no score, and the dialect can't say so beside the others."""

    code = "no_score"


class CallerGone(Exception):
    """Nobody reads an answer any more."""


class JobFailed(PodiumError):
    """The job ended without a result; `why` is its own code."""

    code = "failed"
    callers: ClassVar[frozenset[str]] = frozenset({"query_too_long", "invalid_request", "too_large"})

    def __init__(self, job: Job) -> None:
        super().__init__(job.error.message if job.error else f"the job is {job.state.value}")
        self.why = job.error.code if job.error else job.state.value


@dataclass(frozen=True)
class Ranked:
    """What a dialect's answer is made of. `results`: those with a score, the best first, scores in 0..1."""

    job: Job
    result: Result
    results: list[tuple[int, float]]

    @property
    def unscored(self) -> list[RankedDocument]:
        return [entry for entry in self.result.results if entry.relevance_score is None]

    @property
    def tokens(self) -> int:
        return self.result.usage.total_tokens

    def all(self) -> list[tuple[int, float]]:
        """`results`, if no document is left out. Raises `Unscored`."""
        for entry in self.unscored:
            raise Unscored(
                f"document {entry.index} has no score: {entry.message}", field=f"documents.{entry.index}"
            )
        return self.results


async def rank_all(request: Request, owner: str, asked: Sequence[Mapping[str, Any]]) -> list[Ranked]:
    """As `rank`, for several jobs at once. One that fails takes the others along."""
    ranking = [asyncio.ensure_future(rank(request, owner, **one)) for one in asked]
    try:
        return await asyncio.gather(*ranking)
    finally:
        for one in ranking:
            one.cancel()
        await asyncio.gather(*ranking, return_exceptions=True)


async def rank(request: Request, owner: str, *, model: str | None, **asked: Any) -> Ranked:
    """Runs a job of `asked` (fields of `JobRequest`; on the interactive lane, if they don't name one).

    `model`: as the caller calls it. Raises `PodiumError`; `CallerGone` once the caller has hung up: then the
    job is cancelled.
    """
    state = request.app.state
    settings: Settings = state.settings
    patience = settings.jobs.max_wait.total_seconds()
    kept = settings.jobs.dialect_ttl.total_seconds()
    known = {"result_ttl": max(1, math.ceil(kept)), "finish_within": max(1, math.ceil(patience))}
    wanted = read(JobRequest, {**known, "model": _meant(model, settings), **asked})
    job = admit(wanted, owner, settings)
    waiting: Waiting = state.waiting

    with waiting.watched(job.id) as told:
        await accept(job, state.jobs, state.doorbell, settings)
        ending = asyncio.ensure_future(waiting.ended(job.id, owner, patience, told, new=True))
        gone = asyncio.ensure_future(_gone(request))
        ended: Job | None = None
        try:
            await asyncio.wait({ending, gone}, return_when=asyncio.FIRST_COMPLETED)
            ended = ending.result().job if ending.done() else None
        finally:
            ending.cancel()
            gone.cancel()
            if ended is None or not ended.state.terminal:
                await asyncio.shield(asyncio.to_thread(_take_back, job.id, owner, state.store, state.ending))
    if ended is None:
        raise CallerGone
    return _ranked(ended)


def _meant(model: str | None, settings: Settings) -> str | None:
    """Names that clients send of themselves mean the default model, unless one of that name is served."""
    return None if not model or (model in settings.aliases and model not in settings.served) else model


def _take_back(job_id: str, owner: str, store: Store, ending: Ending) -> None:
    with suppress(AlreadyEnded, JobNotFound, StoreUnavailable):  # it expires anyway
        cancel_job(job_id, owner, store, ending)


async def _gone(request: Request) -> None:
    """Returns when the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _ranked(job: Job) -> Ranked:
    if not job.state.terminal:
        raise TookTooLong("not ranked in time, and given up: try again, or send it as a job to /v1/jobs")
    if job.state is not JobState.SUCCEEDED or job.result is None:
        raise JobFailed(job)
    kind = job.result.provenance.score
    scored = [
        (entry.index, unit(entry.relevance_score, kind))
        for entry in job.result.results
        if entry.relevance_score is not None
    ]
    return Ranked(job, job.result, scored)


def unit(score: float, kind: str) -> float:
    """A score of `kind` between 0 and 1, as every dialect promises; the order stays."""
    match kind:
        case "cosine":
            found = (1 + score) / 2
        case "logit":
            found = 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
        case _:
            found = score
    return min(1.0, max(0.0, found))
