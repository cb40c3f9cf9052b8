"""A job as a stream of Server-Sent Events: each thing that changes of it, until its end.

Every event is the job as it is, so whoever comes back with `Last-Event-ID` gets what has changed since.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from api import problems
from api.accepting import owned
from api.auth import Owner, bearer
from api.schemas import job_out
from jobs.errors import JobNotFound, StoreUnavailable
from jobs.model import Job

router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(bearer)], responses=problems.RESPONSES
)

LOOK = 1.0
"""Seconds between two looks at a job's progress: its worker notes it as often. Its end is told at once."""

HEARTBEAT = 15.0
"""Seconds without an event after which a comment says that the connection lives."""


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Events `queued`, `running` or the state in which it has ended; each is the job",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "Nothing comes after `Last-Event-ID`: the job has ended"},
        404: {**problems.RESPONSES[422], "description": "No such job, or not this key's"},
    },
)
async def events(
    job_id: str,
    request: Request,
    owner: Owner,
    last_event_id: Annotated[str | None, Header(description="of the last event that was read")] = None,
) -> Response:
    """The job's changes of state, its place in the queue, its progress and its result, as they come."""
    state = request.app.state

    async def look() -> Job:
        return await asyncio.to_thread(owned, job_id, owner, state.store)

    seen = await look()
    if seen.state.terminal and _event_id(seen) == last_event_id:
        return Response(status_code=204)  # so that a browser does not ask again
    stream = _stream(request, look, job_id, last_event_id)
    return EventSourceResponse(stream, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def _stream(
    request: Request, look: Callable[[], Awaitable[Job]], job_id: str, last: str | None
) -> AsyncIterator[bytes]:
    state, clock = request.app.state, asyncio.get_running_loop()
    said = clock.time()
    with state.waiting.watched(job_id) as told:
        while True:
            told.clear()
            try:
                seen = await look()
            except JobNotFound:
                return  # erased meanwhile
            except StoreUnavailable:
                await asyncio.sleep(LOOK)
                continue
            if _event_id(seen) != last:
                last, said = _event_id(seen), clock.time()
                out = job_out(seen, state.settings.job_url(job_id)).model_dump_json(exclude_none=True)
                yield format_sse_event(event=seen.state.value, id=last, data_str=out)
            if seen.state.terminal:
                return
            if clock.time() - said >= HEARTBEAT:
                said = clock.time()
                yield format_sse_event(comment="still there")
            try:
                await asyncio.wait_for(told.wait(), LOOK)
            except TimeoutError:
                continue


def _event_id(job: Job) -> str:
    """Another one whenever there is something new to say."""
    return f"{job.generation}-{job.state}-{job.scored}-{'' if job.position is None else job.position}"
