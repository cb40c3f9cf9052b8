"""Jobs: steps 1 to 3 of a job's path, and the reading of its end."""

import asyncio
import re
import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api import problems
from api.accepting import accept, cancel_job, erase, owned
from api.admission import admit, estimate_tokens
from api.auth import Owner, bearer
from api.schemas import JobOut, JobRequest, JobsOut, job_out
from api.waiting import Waiting
from jobs.errors import InvalidRequest, NotRetryable
from jobs.later import Later
from jobs.model import Idempotency, Job, NewJob
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState
from jobs.store import Store

router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(bearer)], responses=problems.RESPONSES
)


@router.post(
    "",
    status_code=202,
    response_model_exclude_none=True,
    responses={
        200: {"model": JobOut, "description": "With `Prefer: wait=…`: the job has ended"},
        409: {**problems.RESPONSES[422], "description": "The Idempotency-Key was used for another request"},
        410: {**problems.RESPONSES[422], "description": "The Idempotency-Key's job is no longer kept"},
    },
)
async def create(
    body: JobRequest,
    request: Request,
    response: Response,
    owner: Owner,
    prefer: Annotated[str | None, Header(description="wait=20: hold the answer up to 20 s")] = None,
    idempotency_key: Annotated[
        str | None, Header(description="the same key and body again: the same job, for 24 h")
    ] = None,
) -> JobOut:
    """Accepts a job: stored and announced when this answers, and not lost from then on."""
    settings: Settings = request.app.state.settings
    job = admit(body, owner, settings, idempotency_key)
    state = request.app.state
    wait = _preferred_wait(prefer, settings)
    with state.waiting.watched(job.id) as told:
        job_id, seen = await asyncio.to_thread(
            accept, job, state.store, state.doorbell, state.announced, settings
        )
        if wait:
            found = await _found(request, job_id, owner, wait, told if job_id == job.id else None)
        else:
            found = job_out(seen, settings.job_url(job_id))
    if job_id != job.id:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = settings.job_url(job_id)
    if wait:
        response.headers["Preference-Applied"] = "wait"
        response.status_code = 200 if found.status.terminal else 202
    return found


@router.get("", response_model_exclude_none=True)
async def jobs(
    request: Request,
    owner: Owner,
    status: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobsOut:
    """The caller's jobs, the newest first, without results."""
    state = request.app.state
    found, after = await asyncio.to_thread(_page, state.store, owner, status, _place(cursor), limit)
    return JobsOut(
        jobs=[job_out(job, state.settings.job_url(job.id)) for job in found],
        next_cursor=None if after is None else f"{after[0]}-{after[1]}",
    )


@router.get(
    "/{job_id}",
    response_model_exclude_none=True,
    responses={404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"}},
)
async def get(
    job_id: str,
    request: Request,
    owner: Owner,
    wait: Annotated[float, Query(ge=0, description="seconds to hold the answer, unless the job ends")] = 0,
) -> JobOut:
    """A job: its state and progress, and its result once it has ended."""
    settings: Settings = request.app.state.settings
    return await _found(request, job_id, owner, min(wait, settings.jobs.max_wait.total_seconds()))


@router.post(
    "/{job_id}/cancel",
    response_model_exclude_none=True,
    responses={
        404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"},
        409: {**problems.RESPONSES[422], "description": "It has ended already; `detail` says how"},
    },
)
async def cancel(job_id: str, request: Request, owner: Owner) -> JobOut:
    """Takes a job back: at once while it waits; while it runs, its unscored documents are dropped."""
    await asyncio.to_thread(cancel_job, job_id, owner, request.app.state.store, request.app.state.ending)
    return await _found(request, job_id, owner, 0)


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
    found, seen = await asyncio.to_thread(
        _retry, job_id, owner, state.store, state.doorbell, state.announced, state.settings
    )
    url = response.headers["Location"] = state.settings.job_url(found)
    return job_out(seen, url)


async def _found(
    request: Request, job_id: str, owner: str, wait: float, told: asyncio.Event | None = None
) -> JobOut:
    """The job as it is, or once it has ended if it does so in time. `told`: of a new job's end."""
    state = request.app.state
    waiting: Waiting = state.waiting

    async def look() -> Job:
        return await asyncio.to_thread(owned, job_id, owner, state.store)

    if not wait:
        job = await look()
    elif told is not None:
        job = await waiting.ended(look, wait, told, new=True)
    else:
        with waiting.watched(job_id) as told:
            job = await waiting.ended(look, wait, told)
    return job_out(job, state.settings.job_url(job_id))


def _retry(
    job_id: str,
    owner: str,
    store: Store,
    doorbell: Doorbell,
    announced: Later[str],
    settings: Settings,
) -> tuple[str, Job]:
    job = owned(job_id, owner, store)
    work = store.work(job_id)
    if job.state is not JobState.FAILED or work is None:
        why = "and its documents are erased" if job.state is JobState.FAILED else "not failed"
        raise NotRetryable(f"the job is {job.state.value}, {why}: submit it anew")
    again = NewJob(
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
    return accept(again, store, doorbell, announced, settings)


LOOKED_AT = 2_000
"""Jobs that one page looks at, at most, to find those in the state that was asked for."""

Place = tuple[int, str]


def _page(
    store: Store, owner: str, status: JobState | None, before: Place | None, limit: int
) -> tuple[list[Job], Place | None]:
    """Up to `limit` jobs, and the place after which to go on: None at the end."""
    found: list[Job] = []
    for looked_at, (place, job) in enumerate(store.jobs_of(owner, before=before), start=1):
        if status in (None, job.state):
            found.append(job)
        if len(found) == limit or looked_at == LOOKED_AT:
            return found, place
    return found, None


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    at, _, job_id = cursor.partition("-")
    if not at.isdigit() or not job_id:
        raise InvalidRequest("take it from `next_cursor`", field="cursor")
    return int(at), job_id


def _preferred_wait(prefer: str | None, settings: Settings) -> float:
    """The seconds of `Prefer: wait=n` (RFC 7240), as many as the service allows."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})", prefer or "")
    return min(float(found[1]), settings.jobs.max_wait.total_seconds()) if found else 0.0
