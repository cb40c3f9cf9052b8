"""How values lie in Redis: hashes of text fields, and compressed JSON for what is large."""

import json
import threading
from datetime import timedelta
from typing import Any, TypeVar

import zstandard
from pydantic import BaseModel

from jobs import keys
from jobs.callback import CallbackRecord
from jobs.model import CallbackTarget, Claim, Failure, Job, Lane, NewJob, Result, Work
from jobs.states import CallbackState, JobState

V = TypeVar("V", bound=BaseModel)

LEVEL = 3
"""zstd's default: the level that costs about as much time as writing the JSON."""


class Zstd(threading.local):
    """zstd with each thread's own tables: making them anew costs four times what a job's texts do."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(LEVEL).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


ZSTD = Zstd()


def pack(value: BaseModel) -> bytes:
    """Compressed JSON (zstd) without the defaults."""
    return ZSTD.compress(value.model_dump_json(exclude_defaults=True).encode())


def unpack(kind: type[V], data: bytes) -> V:
    return kind.model_validate_json(ZSTD.decompress(data))


def fields_of(job: NewJob) -> list[str | int]:
    """The job's hash as a flat list, without what `create.lua` adds and without the work."""
    fields: dict[str, str | int] = {
        "state": JobState.QUEUED.value,
        "owner": job.owner,
        "model": job.model,
        "lane": job.lane.value,
        "total": len(job.work.documents),
        "queued_in": keys.queued(job.model, job.lane),
        "result_ttl": round(job.result_ttl.total_seconds()),
    }
    if job.work.metadata is not None:
        fields["metadata"] = json.dumps(job.work.metadata)
    if job.callback is not None:
        fields["callback"] = job.callback.model_dump_json()
    return [item for pair in fields.items() for item in pair]


def queued(job: NewJob, now_ms: int, position: int, starts_ms: int | None, *, announced: bool) -> Job:
    """`job` as it is once `create.lua` has stored it."""
    return Job(
        id=job.id,
        owner=job.owner,
        state=JobState.QUEUED,
        model=job.model,
        lane=job.lane,
        total=len(job.work.documents),
        position=position,
        starts_at=None if starts_ms is None else starts_ms / 1000,
        created_at=now_ms / 1000,
        announced_at=now_ms / 1000 if announced else None,
        metadata=job.work.metadata,
        result_ttl=job.result_ttl,
        callback=job.callback,
    )


def job_of(
    job_id: str,
    fields: dict[str, str],
    result: bytes | None = None,
    position: int | None = None,
    starts_ms: int | None = None,
) -> Job:
    def when(name: str) -> float | None:
        return int(fields[name]) / 1000 if name in fields else None

    return Job(
        id=job_id,
        owner=fields["owner"],
        state=JobState(fields["state"]),
        model=fields["model"],
        lane=Lane(fields["lane"]),
        total=int(fields["total"]),
        scored=int(fields["scored"]),
        position=position,
        starts_at=None if starts_ms is None else starts_ms / 1000,
        generation=int(fields["generation"]),
        attempts=int(fields["attempts"]),
        created_at=int(fields["created_at"]) / 1000,
        announced_at=when("announced_at"),
        started_at=when("started_at"),
        ended_at=when("ended_at"),
        metadata=json.loads(fields["metadata"]) if "metadata" in fields else None,
        result=None if result is None else unpack(Result, result),
        error=_parsed(Failure, fields.get("error")),
        result_ttl=timedelta(seconds=int(fields["result_ttl"])),
        ends=int(fields.get("ends", 0)),
        callback=_parsed(CallbackTarget, fields.get("callback")),
        callback_state=CallbackState(fields["callback_state"]) if "callback_state" in fields else None,
        worker=fields.get("worker"),
    )


CLAIMED = ("owner", "model", "lane", "attempts", "deaths", "created_at", "callback")
"""Fields of a job that its worker is given."""


def claim_of(job_id: str, now_ms: int, generation: int, fields: dict[str, Any], work: bytes) -> Claim:
    return Claim(
        job_id=job_id,
        owner=fields["owner"],
        model=fields["model"],
        lane=Lane(fields["lane"]),
        generation=generation,
        attempts=int(fields["attempts"]),
        deaths=int(fields["deaths"]),
        queued_for=(now_ms - int(fields["created_at"])) / 1000,
        work=unpack(Work, work),
        callback=_parsed(CallbackTarget, fields.get("callback")),
    )


def callback_of(job_id: str, fields: dict[str, str]) -> CallbackRecord:
    attempts: list[dict[str, Any]] = [
        json.loads(fields[f"attempt:{n}"]) for n in range(1, int(fields["attempts"]) + 1)
    ]
    return CallbackRecord(
        job_id=job_id,
        owner=fields["owner"],
        state=CallbackState(fields["state"]),
        target=CallbackTarget.model_validate_json(fields["target"]),
        body=fields["body"],
        attempts=tuple(attempts),
        replayed_after=int(fields.get("replayed_after", 0)),
    )


def _parsed(kind: type[V], text: str | None) -> V | None:
    return None if text is None else kind.model_validate_json(text)
