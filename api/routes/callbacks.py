"""A job's callback as its owner sees it: what was tried, and once more."""

import asyncio

from fastapi import Request

from api import problems
from api.auth import Owner, keyed
from api.schemas import CallbackRecordOut, callback_out
from jobs.callback import CallbackRecord
from jobs.errors import CallbackNotFound, CallbackPending
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import Outcome
from jobs.store import Store

NOT_FOUND = {**problems.RESPONSES[422], "description": "No such callback, or not this key's"}

router = keyed(
    prefix="/v1/jobs/{job_id}/callback",
    tags=["callbacks"],
    responses={**problems.RESPONSES, 404: NOT_FOUND},
)


@router.get("", response_model_exclude_none=True)
async def get(job_id: str, request: Request, owner: Owner) -> CallbackRecordOut:
    """Each attempt to deliver the job's callback. Kept longer than the job's result."""
    return callback_out(await asyncio.to_thread(_owned, job_id, owner, request.app.state.store))


@router.post(
    "/replay",
    status_code=202,
    response_model_exclude_none=True,
    responses={409: {**problems.RESPONSES[422], "description": "It is still being tried"}},
)
async def replay(job_id: str, request: Request, owner: Owner) -> CallbackRecordOut:
    """Delivers a callback again that was delivered or given up, with the same `webhook-id`."""
    state = request.app.state
    record = await asyncio.to_thread(_replay, job_id, owner, state.store, state.doorbell, state.settings)
    return callback_out(record)


def _owned(job_id: str, owner: str, store: Store) -> CallbackRecord:
    record = store.callback(job_id)
    if record is None or record.owner != owner:
        raise CallbackNotFound(f"the job {job_id} has no callback, or it is no longer kept")
    return record


def _replay(job_id: str, owner: str, store: Store, doorbell: Doorbell, settings: Settings) -> CallbackRecord:
    _owned(job_id, owner, store)
    if store.replay_callback(job_id, settings.callbacks.hold) is Outcome.REFUSED:
        raise CallbackPending("this callback is still being tried: there is nothing to replay")
    doorbell.announce_callback(job_id)
    return _owned(job_id, owner, store)
