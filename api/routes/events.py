"""A job as a stream of Server-Sent Events: each thing that changes of it, until its end.

Every event is the job as it is, so whoever comes back with `Last-Event-ID` gets what has changed since.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import Header, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from api import problems
from api.auth import Owner, keyed
from api.looking import Looks
from api.waiting import Waiting
from jobs.errors import JobNotFound, StoreUnavailable
from jobs.model import Job
from jobs.states import JobState

router = keyed(prefix="/v1/jobs", tags=["jobs"], responses=problems.RESPONSES)

LOOK = 1.0
"""Seconds between two looks at a job's progress: its worker notes it as often. Its end is told at once."""

LINE_ENDS = {ord(end): rf"\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Unicode's, as JSON may write them: FastAPI takes them for those of the stream."""

HEARTBEAT = 15.0
"""Seconds without an event after which a comment says that the connection lives."""


EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": list(JobState)},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobOut"},
        },
    },
    "required": ["event", "id", "data"],
}
"""For OpenAPI: one event."""


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Events `queued`, `running` or the state in which it has ended; each is the job",
            "content": {"text/event-stream": {"itemSchema": EVENT}},
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
    looks: Looks = request.app.state.looks
    seen = (await looks.at(job_id, owner)).job
    if seen.state.terminal and _event_id(seen) == last_event_id:
        return Response(status_code=204)  # so that a browser does not ask again
    stream = _stream(looks, request.app.state.waiting, job_id, owner, last_event_id)
    return EventSourceResponse(stream, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def _stream(
    looks: Looks, waiting: Waiting, job_id: str, owner: str, last: str | None
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop()
    said = clock.time()
    with waiting.watched(job_id) as told:
        while True:
            told.clear()
            try:
                look = await looks.at(job_id, owner)
            except JobNotFound:
                return  # erased meanwhile
            except StoreUnavailable:
                await asyncio.sleep(LOOK)
                continue
            if _event_id(look.job) != last:
                last, said = _event_id(look.job), clock.time()
                data = look.json.decode().translate(LINE_ENDS)
                yield format_sse_event(event=look.job.state.value, id=last, data_str=data)
            if look.job.state.terminal:
                return
            if clock.time() - said >= HEARTBEAT:
                said = clock.time()
                yield format_sse_event(comment="still there")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await told.wait()


def _event_id(job: Job) -> str:
    """Another one whenever there is something new to say."""
    return f"{job.generation}-{job.state}-{job.scored}-{'' if job.position is None else job.position}"
