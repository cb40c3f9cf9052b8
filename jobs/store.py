"""The store: where jobs rest. The only module that touches job keys; every change is one Lua script.

Nothing here knows HTTP, Celery or engines. Each transition answers with an `Outcome`: a refusal is for the
caller to handle, not an exception. `StoreUnavailable` is raised when Redis can't be reached or can't write.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, TimeoutError

from jobs import keys
from jobs.callback import CallbackRecord
from jobs.errors import StoreUnavailable
from jobs.model import CallbackTarget, Claim, Failure, Job, Lane, NewJob, Result, Work
from jobs.scripts import Scripts, milliseconds
from jobs.states import CallbackState, JobState, Outcome, predecessors

SECOND = timedelta(seconds=1)
T = TypeVar("T", CallbackTarget, Result, Failure)


def connect(url: str) -> "Redis":
    """A client for `url`; it connects at its first command and again after a lost connection."""
    return Redis.from_url(url, decode_responses=True, socket_timeout=10, socket_connect_timeout=5)


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (RedisConnectionError, TimeoutError) as error:
        raise StoreUnavailable("Redis can't be reached; try again shortly") from error
    except OutOfMemoryError as error:
        raise StoreUnavailable("Redis is full; try again later") from error
    except RedisError as error:
        if "LOADING" in str(error) or "MISCONF" in str(error):
            raise StoreUnavailable("Redis can't serve yet; try again shortly") from error
        raise


class Store:
    def __init__(self, redis: "Redis", *, offset: timedelta = timedelta(0)) -> None:
        self._redis = redis
        self._scripts = Scripts(redis, offset)

    def ping(self) -> None:
        with _available():
            self._redis.ping()

    # -- a job's path, in the order of its steps ---------------------------------------------------

    def create(self, job: NewJob) -> Outcome | str:
        """Stores `job` as queued and not yet announced: OK; REFUSED if the id exists.

        With an idempotency key that is known: the id of its first job, or CONFLICT for another request.
        """
        fields = {
            "state": JobState.QUEUED.value,
            "owner": job.owner,
            "model": job.model,
            "lane": job.lane.value,
            "total": len(job.work.documents),
            "queued_in": keys.queued(job.model, job.lane),
            "result_ttl": round(job.result_ttl / SECOND),
            "work": job.work.model_dump_json(exclude_defaults=True),
        }
        if job.work.metadata is not None:
            fields["metadata"] = json.dumps(job.work.metadata)
        if job.callback is not None:
            fields["callback"] = job.callback.model_dump_json()
        flat = [item for pair in fields.items() for item in pair]
        queued = keys.queued(job.model, job.lane)
        again = job.idempotency
        where = [
            keys.job(job.id),
            queued,
            keys.UNANNOUNCED,
            keys.LANES,
            keys.DEADLINES,
            keys.idempotency(job.owner, again.key if again else ""),
        ]
        deadlines = ["" if d is None else milliseconds(d) for d in (job.start_within, job.finish_within)]
        remembered: list[str | int] = [again.request, round(again.ttl / SECOND)] if again else ["", 0]
        with _available():
            answer = self._scripts.run("create", where, [job.id, *deadlines, *remembered, *flat])
        return str(answer[1]) if answer[0] == "REPLAYED" else Outcome(answer[0])

    def announced(self, job_id: str) -> Outcome:
        """Notes that the job's doorbell was rung."""
        return self._ask("announced", [keys.job(job_id), keys.UNANNOUNCED], [job_id])

    def claim(self, job_id: str, worker: str, lease: timedelta) -> Claim | Outcome:
        """The right to work on a queued job until the lease ends, or why not."""
        args: list[str | int] = [
            job_id,
            worker,
            milliseconds(lease),
            _from(JobState.RUNNING),
            JobState.RUNNING.value,
        ]
        with _available():
            answer = self._scripts.run(
                "claim", [keys.job(job_id), keys.RUNNING, keys.UNANNOUNCED, keys.DEADLINES], args
            )
        if answer[0] != Outcome.OK:
            return Outcome(answer[0])
        fields = dict(zip(answer[2][::2], answer[2][1::2], strict=True))
        return Claim(
            job_id=job_id,
            owner=fields["owner"],
            model=fields["model"],
            lane=Lane(fields["lane"]),
            generation=int(fields["generation"]),
            attempts=int(fields["attempts"]),
            queued_for=(int(answer[1]) - int(fields["created_at"])) / 1000,
            claimed_at=int(answer[1]) / 1000,
            result_ttl=int(fields["result_ttl"]) * SECOND,
            work=Work.model_validate_json(fields["work"]),
            callback=_parsed(CallbackTarget, fields.get("callback")),
        )

    def renew(self, job_id: str, generation: int, lease: timedelta, scored: int) -> Outcome:
        """Prolongs a lease; `scored` is the number of documents that have their score."""
        args = [job_id, generation, milliseconds(lease), scored, JobState.RUNNING.value]
        return self._ask("renew", [keys.job(job_id), keys.RUNNING], args)

    def finish(
        self,
        job_id: str,
        generation: int | None,
        state: JobState,
        end: Result | Failure,
        *,
        before: JobState | None = None,
        callback_body: str = "",
        callback_ttl: timedelta = timedelta(days=7),
        callback_after: timedelta = timedelta(0),
    ) -> Outcome:
        """Ends a job with its result or its failure, and makes its callback pending, all in one script.

        `generation` None: whoever holds the job; `before`: only from that state. Ring for the callback
        after an OK; the sweeper does it after `callback_after`.
        """
        scored = end.usage.documents if isinstance(end, Result) else ""
        where = [
            keys.job(job_id),
            keys.RUNNING,
            keys.UNANNOUNCED,
            keys.callback(job_id),
            keys.CALLBACKS,
            keys.DEADLINES,
        ]
        args = [
            job_id,
            "" if generation is None else generation,
            _from(state) if before is None else before.value,
            state.value,
            "result" if isinstance(end, Result) else "error",
            end.model_dump_json(),
            scored,
            callback_body,
            round(callback_ttl / SECOND),
            milliseconds(callback_after),
        ]
        return self._ask("finish", where, args)

    def release(self, job_id: str, generation: int, *, charge: bool) -> Outcome:
        """Puts a running job back into its queue. `charge`: its lease was lost or its engine died."""
        args = [job_id, generation, _from(JobState.QUEUED), JobState.QUEUED.value, int(charge)]
        return self._ask("release", [keys.job(job_id), keys.RUNNING, keys.UNANNOUNCED], args)

    # -- what the sweeper looks at --------------------------------------------------------------------

    def overdue(self, limit: int) -> list[tuple[str, int, int]]:
        """Running jobs whose lease has ended: (id, generation, attempts)."""
        with _available():
            flat = self._scripts.run("overdue", [keys.RUNNING], [keys.job(""), limit])
        return [(flat[i], int(flat[i + 1]), int(flat[i + 2])) for i in range(0, len(flat), 3)]

    def expired(self, limit: int) -> list[tuple[str, JobState | None]]:
        """Jobs with a deadline that has passed: (id, the state in which it must still be; None for any)."""
        with _available():
            where, waits = [keys.DEADLINES], JobState.QUEUED.value
            flat = self._scripts.run("expired", where, [keys.job(""), limit, waits])
        return [(flat[i], JobState(flat[i + 1]) if flat[i + 1] else None) for i in range(0, len(flat), 2)]

    def unannounced(self, after: timedelta, limit: int) -> list[str]:
        """Waiting jobs without a doorbell for longer than `after`, oldest first."""
        with _available():
            found = self._scripts.run("unannounced", [keys.UNANNOUNCED], [milliseconds(after), limit])
        return cast("list[str]", found)

    def lanes(self) -> list[tuple[str, Lane]]:
        """The (model, lane) of every queue that was ever used."""
        with _available():
            names = cast("set[str]", self._redis.smembers(keys.LANES))
        split = (name.removeprefix("podium:queued:").rpartition(":") for name in sorted(names))
        return [(model, Lane(lane)) for model, _, lane in split]

    def waiting(self, model: str, lane: Lane, limit: int) -> list[str]:
        """The oldest waiting jobs of a queue."""
        with _available():
            return cast("list[str]", self._redis.zrange(keys.queued(model, lane), 0, limit - 1))

    # -- what readers see -------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        with _available():
            fields = cast("dict[str, str]", self._redis.hgetall(keys.job(job_id)))
        return _job(job_id, fields) if fields else None

    def position(self, job: Job) -> int | None:
        """How many jobs of the same queue stand before this one; None once it has left."""
        with _available():
            return cast("int | None", self._redis.zrank(keys.queued(job.model, job.lane), job.id))

    # -- callbacks ------------------------------------------------------------------------------------------

    def due_callbacks(self, hold: timedelta, limit: int) -> list[str]:
        """Callbacks to ring for. Each is due again after `hold`, unless its attempt is settled before."""
        with _available():
            due = self._scripts.run("callbacks_due", [keys.CALLBACKS], [milliseconds(hold), limit])
        return cast("list[str]", due)

    def callback(self, job_id: str) -> CallbackRecord | None:
        with _available():
            fields = cast("dict[str, str]", self._redis.hgetall(keys.callback(job_id)))
        if not fields:
            return None
        attempts = int(fields["attempts"])
        return CallbackRecord(
            job_id=job_id,
            state=CallbackState(fields["state"]),
            target=CallbackTarget.model_validate_json(fields["target"]),
            body=fields.get("body"),
            attempts=tuple(json.loads(fields[f"attempt:{n}"]) for n in range(1, attempts + 1)),
        )

    def claim_callback(self, job_id: str, hold: timedelta) -> Outcome:
        """The right to make one attempt, for at most `hold`. REFUSED when somebody is at it."""
        where = [keys.callback(job_id), keys.CALLBACKS]
        return self._ask("callback_claim", where, [job_id, milliseconds(hold)])

    def settle_callback(
        self, job_id: str, state: CallbackState, attempt: dict[str, Any], again_in: timedelta | None
    ) -> Outcome:
        """Records one attempt; `again_in` is the time to the next one, None when there is none."""
        wait = -1 if again_in is None else milliseconds(again_in)
        where = [keys.callback(job_id), keys.CALLBACKS, keys.job(job_id)]
        return self._ask("callback_settle", where, [job_id, state.value, wait, json.dumps(attempt)])

    # -- workers --------------------------------------------------------------------------------------------

    def heartbeat(self, worker: str, about: dict[str, Any], ttl: timedelta) -> None:
        with _available():
            self._redis.set(keys.worker(worker), json.dumps(about), px=milliseconds(ttl))

    def retire(self, worker: str) -> None:
        with _available():
            self._redis.delete(keys.worker(worker))

    def workers(self) -> list[dict[str, Any]]:
        """What each live worker says of itself."""
        with _available():
            names = sorted(self._redis.scan_iter(match=keys.WORKERS + "*", count=1000))
            found = cast("list[str | None]", self._redis.mget(names)) if names else []
        return [json.loads(about) for about in found if about]

    def _ask(self, script: str, where: list[str], args: list[Any]) -> Outcome:
        with _available():
            return Outcome(self._scripts.run(script, where, args))


def _from(state: JobState) -> str:
    return ",".join(predecessors(state))


def _parsed(kind: type[T], text: str | None) -> T | None:
    return None if text is None else kind.model_validate_json(text)


def _job(job_id: str, fields: dict[str, str]) -> Job:
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
        generation=int(fields["generation"]),
        attempts=int(fields["attempts"]),
        created_at=int(fields["created_at"]) / 1000,
        announced_at=when("announced_at"),
        started_at=when("started_at"),
        ended_at=when("ended_at"),
        metadata=json.loads(fields["metadata"]) if "metadata" in fields else None,
        result=_parsed(Result, fields.get("result")),
        error=_parsed(Failure, fields.get("error")),
        ends=int(fields.get("ends", 0)),
        callback=_parsed(CallbackTarget, fields.get("callback")),
        callback_state=CallbackState(fields["callback_state"]) if "callback_state" in fields else None,
    )
