"""Jobs: steps 1 to 3 of a job's path, and the reading of its end."""

import asyncio
import re
import uuid
from typing import Annotated

from fastapi import Header, Query, Request, Response

from api import problems
from api.accepting import accept, cancel_job, erase, owned
from api.admission import admit, estimate_tokens
from api.auth import Owner, keyed
from api.listing import Only, Place
from api.looking import Look, Looks
from api.schemas import JobOut, JobRequest, JobsOut, job_out
from api.waiting import Waiting
from jobs.errors import NotRetryable
from jobs.model import Idempotency, Job, NewJob
from jobs.settings import Settings
from jobs.states import JobState
from jobs.store import Store

router = keyed(prefix="/v1/jobs", tags=["jobs"], responses=problems.RESPONSES)


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses={
        200: {"model": JobOut, "description": "With `Prefer: wait=…`: the job has ended"},
        409: {**problems.RESPONSES[422], "description": "The Idempotency-Key was used for another request"},
        410: {**problems.RESPONSES[422], "description": "The Idempotency-Key's job is no longer kept"},
        415: {**problems.RESPONSES[422], "description": "The body is not said to be JSON"},
    },
)
async def create(
    body: JobRequest,
    request: Request,
    owner: Owner,
    prefer: Annotated[str | None, Header(description="wait=20: hold the answer up to 20 s")] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1, max_length=255, description="the same key and body again: the same job, for 24 h"
        ),
    ] = None,
) -> Response:
    """Accepts a job: stored and announced when this answers, and not lost from then on."""
    settings: Settings = request.app.state.settings
    job = admit(body, owner, settings, idempotency_key)
    state = request.app.state
    wait = _preferred_wait(prefer, settings)
    with state.waiting.watched(job.id) as told:
        job_id, seen = await accept(job, state.jobs, state.doorbell, settings)
        if wait:
            look = await _look(request, job_id, owner, wait, told if job_id == job.id else None)
        else:
            look = Look(seen, settings.job_url(job_id))
    headers = {"Location": settings.job_url(job_id)}
    if job_id != job.id:
        headers["Idempotency-Replayed"] = "true"
    if wait:
        headers["Preference-Applied"] = "wait"
    return _answer(look, 200 if wait and look.job.state.terminal else 202, headers)


@router.get("", response_model_exclude_none=True)
async def jobs(
    request: Request,
    owner: Owner,
    only: Annotated[Only, Query()],
) -> JobsOut:
    """The caller's jobs, the newest first, without results."""
    state = request.app.state
    found, after = await asyncio.to_thread(_page, state.store, owner, only)
    return JobsOut(
        jobs=[job_out(job, state.settings.job_url(job.id)) for job in found],
        next_cursor=None if after is None else f"{after[0]}-{after[1]}",
    )


@router.get(
    "/{job_id}",
    response_model=JobOut,
    responses={404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"}},
)
async def get(
    job_id: str,
    request: Request,
    owner: Owner,
    wait: Annotated[float, Query(ge=0, description="seconds to hold the answer, unless the job ends")] = 0,
) -> Response:
    """A job: its state and progress, and its result once it has ended."""
    settings: Settings = request.app.state.settings
    return _answer(await _look(request, job_id, owner, min(wait, settings.jobs.max_wait.total_seconds())))


@router.post(
    "/{job_id}/cancel",
    response_model=JobOut,
    responses={
        404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"},
        409: {**problems.RESPONSES[422], "description": "It has ended already; `detail` says how"},
    },
)
async def cancel(job_id: str, request: Request, owner: Owner) -> Response:
    """Takes a job back: at once while it waits; while it runs, its unscored documents are dropped."""
    await asyncio.to_thread(cancel_job, job_id, owner, request.app.state.store, request.app.state.ending)
    return _answer(await _look(request, job_id, owner))


@router.delete(
    "/{job_id}",
    status_code=204,
    responses={
        404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"},
        409: {**problems.RESPONSES[422], "description": "It has not ended: cancel it first"},
    },
)
async def delete(job_id: str, request: Request, owner: Owner) -> None:
    """Erases a job that has ended, with its result and its callback, before their time."""
    await asyncio.to_thread(erase, job_id, owner, request.app.state.store)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model_exclude_none=True,
    responses={
        404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"},
        409: {**problems.RESPONSES[422], "description": "It has not failed, or can't be run again"},
    },
)
async def retry(job_id: str, request: Request, response: Response, owner: Owner) -> JobOut:
    """Runs a failed job again, as a new job: an end is an end. Asked twice, it is the same new job."""
    state = request.app.state
    again = await asyncio.to_thread(_again, job_id, owner, state.store)
    found, seen = await accept(again, state.jobs, state.doorbell, state.settings)
    url = response.headers["Location"] = state.settings.job_url(found)
    return job_out(seen, url)


async def _look(
    request: Request, job_id: str, owner: str, wait: float = 0, told: asyncio.Event | None = None
) -> Look:
    """The job as it is, or once it has ended if it does so in time. `told`: of a new job's end."""
    waiting: Waiting = request.app.state.waiting
    looks: Looks = request.app.state.looks
    if not wait:
        return await looks.at(job_id, owner)
    if told is not None:
        return await waiting.ended(job_id, owner, wait, told, new=True)
    with waiting.watched(job_id) as told:
        return await waiting.ended(job_id, owner, wait, told)


def _answer(look: Look, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(look.json, status, headers, "application/json")


def _again(job_id: str, owner: str, store: Store) -> NewJob:
    """A new job that asks for what a failed one did. Raises `JobNotFound`, `NotRetryable`."""
    job = owned(store.get(job_id), job_id, owner)
    work = store.work(job_id)
    if job.state is not JobState.FAILED or work is None:
        why = "and its documents are erased" if job.state is JobState.FAILED else "not failed"
        raise NotRetryable(f"the job is {job.state.value}, {why}: submit it anew")
    return NewJob(
        id=str(uuid.uuid4()),
        owner=owner,
        model=job.model,
        lane=job.lane,
        work=work,
        tokens=estimate_tokens(work),
        result_ttl=job.result_ttl,
        callback=job.callback,
        idempotency=Idempotency(key=f"retry-of-{job_id}", request=job_id, ttl=job.result_ttl),
    )


LOOKED_AT = 2_000
"""Jobs that one page looks at, at most, to find those that were asked for."""


def _page(store: Store, owner: str, only: Only) -> tuple[list[Job], Place | None]:
    """Up to `only.limit` jobs, and the place after which to go on: None at the end."""
    found: list[Job] = []
    for looked_at, (place, job) in enumerate(store.jobs_of(owner, before=only.before), start=1):
        if place[0] < only.first:
            break
        if only.wants(job):
            found.append(job)
        if len(found) == only.limit or looked_at == LOOKED_AT:
            return found, place
    return found, None


def _preferred_wait(prefer: str | None, settings: Settings) -> float:
    """The seconds of `Prefer: wait=n` (RFC 7240), as many as the service allows."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})", prefer or "")
    return min(float(found[1]), settings.jobs.max_wait.total_seconds()) if found else 0.0
