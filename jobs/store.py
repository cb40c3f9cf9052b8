"""The store: where jobs rest. The only module that touches job keys; every change is one Lua script.

Nothing here knows HTTP, Celery or engines. Each transition answers with an `Outcome`: a refusal is for the
caller to handle, not an exception. `StoreUnavailable` is raised when Redis can't be reached or can't write.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import chain, count
from typing import Any, NamedTuple, TypeVar, cast

from redis import Redis

from jobs import keys, records
from jobs.callback import CallbackRecord
from jobs.connection import available
from jobs.errors import QueueFull, StoreUnavailable
from jobs.message import Message
from jobs.model import Claim, Depth, Failure, Job, Lane, NewJob, Overdue, Result, Work
from jobs.scripts import Question, Scripts, milliseconds
from jobs.states import CallbackState, JobState, Outcome, predecessors

T = TypeVar("T")
Created = Job | Outcome | str
"""The job as it is stored, why it is not, or the id of the job that an idempotency key has made before."""

SECOND = timedelta(seconds=1)
PAGE = 200
"""Jobs read at a time: more than one owner creates in one millisecond."""


class Room(NamedTuple):
    """What may wait in one lane, and the share of Redis' `maxmemory` up to which jobs are accepted."""

    tokens: int
    jobs: int
    memory_share: float


UNBOUNDED = Room(tokens=10**15, jobs=10**15, memory_share=1.0)


class Store:
    def __init__(self, redis: "Redis", *, offset: timedelta = timedelta(0)) -> None:
        self._redis = redis
        self.scripts = Scripts(redis, offset)
        self._name = uuid.uuid4().hex
        self._calls = count()
        """A name for each call that is not made twice, though the client may send it twice."""

    def ask(self, question: Question[T]) -> T:
        """The answer, which this thread waits for."""
        script, where, args, read, raw = question
        with available():
            answer = self.scripts.run(script, where, args, raw=raw, together=True)
        return read(answer)

    def ping(self) -> None:
        with available():
            self._redis.ping()

    # -- a job's path, in the order of its steps ---------------------------------------------------

    def create(self, job: NewJob, room: Room = UNBOUNDED, message: Message | None = None) -> Created:
        """Asks `creation`."""
        return self.ask(self.creation(job, room, message))

    def creation(self, job: NewJob, room: Room, message: Message | None) -> Question[Created]:
        """Stores `job` as queued, and its doorbell's `message` with it, and returns it so.

        Without a message it waits to be announced. REFUSED: the id exists.
        With an idempotency key that is known: the id of its first job, or CONFLICT for another request.
        Asking it raises `QueueFull` when the job's lane has no room for it.
        """
        again = job.idempotency
        where = [
            keys.job(job.id),
            keys.queued(job.model, job.lane),
            keys.UNANNOUNCED,
            keys.LANES,
            keys.DEADLINES,
            keys.idempotency(job.owner, again.key if again else ""),
            keys.work(job.id),
            keys.jobs_of(job.owner),
            keys.lane(job.model, job.lane),
            message.queue if message else "",
        ]
        deadlines = ["" if d is None else milliseconds(d) for d in (job.start_within, job.finish_within)]
        remembered: list[str | int] = [again.request, round(again.ttl / SECOND)] if again else ["", 0]
        bounds = [job.tokens, room.tokens, room.jobs, room.memory_share]
        args: list[Any] = [
            job.id,
            *deadlines,
            *remembered,
            records.pack(job.work),
            *bounds,
            message.text if message else "",
            *records.fields_of(job),
        ]

        def read(answer: Any) -> Created:
            match answer:
                case ["OK", now_ms, position, starts_ms]:
                    starts = None if starts_ms < 0 else starts_ms
                    return records.queued(job, now_ms, position, starts, announced=message is not None)
                case ["REPLAYED", job_id]:
                    return str(job_id)
                case ["FULL", ms]:
                    raise QueueFull(
                        f"the {job.lane} queue of {job.model} is full; try again after Retry-After seconds",
                        retry_after=None if ms < 0 else ms / 1000 * SECOND,
                    )
                case ["NO_MEMORY"]:
                    raise StoreUnavailable("Redis is full; try again later")
            return Outcome(answer[0])

        return Question("create", where, args, read)

    def announced(self, job_ids: Sequence[str]) -> None:
        """Notes that the doorbells of these jobs were rung."""
        with available():
            self.scripts.run("announced", [keys.UNANNOUNCED, *map(keys.job, job_ids)], job_ids)

    def claim(self, job_id: str, worker: str, lease: timedelta) -> Claim | Outcome:
        """The right to work on a queued job until the lease ends, or why not."""
        where = [keys.job(job_id), keys.RUNNING, keys.UNANNOUNCED, keys.DEADLINES, keys.work(job_id)]
        states = [_from(JobState.RUNNING), JobState.RUNNING.value]
        args: list[Any] = [job_id, worker, milliseconds(lease), *states, f"{self._name}-{next(self._calls)}"]
        with available():
            answer = self.scripts.run("claim", where, [*args, *records.CLAIMED], raw=True, together=True)
        if answer[0] != b"OK":
            return Outcome(answer[0].decode())
        _, now_ms, generation, found, work = answer
        fields = zip(records.CLAIMED, (value and value.decode() for value in found), strict=True)
        return records.claim_of(job_id, now_ms, generation, dict(fields), work)

    def renew(
        self, held: Sequence[tuple[str, int, int]], lease: timedelta, *, inside: bool = False
    ) -> list[Outcome]:
        """Prolongs leases: of each (id, generation, number of documents that have their score).

        `inside`: the engine is about to be given the jobs. Said of a suspect before, not after.
        """
        where = [keys.RUNNING, *(keys.job(job_id) for job_id, _, _ in held)]
        args: list[Any] = [
            milliseconds(lease),
            JobState.RUNNING.value,
            int(inside),
            *chain.from_iterable(held),
        ]
        with available():
            return [Outcome(answer) for answer in self.scripts.run("renew", where, args)]

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
        keep_work: bool = False,
    ) -> Outcome:
        """Ends a job with its result or its failure, and makes its callback pending, all in one script.

        `generation` None: whoever holds the job; `before`: only from that state. Ring for the callback
        after an OK; the sweeper does it after `callback_after`. `keep_work`: it can be run again, as long
        as its failure is kept.
        """
        scored = end.usage.documents if isinstance(end, Result) else ""
        where = [
            keys.job(job_id),
            keys.RUNNING,
            keys.UNANNOUNCED,
            keys.callback(job_id),
            keys.CALLBACKS,
            keys.DEADLINES,
            keys.work(job_id),
            keys.result(job_id),
            keys.ENDED,
        ]
        args = [
            job_id,
            "" if generation is None else generation,
            _from(state) if before is None else before.value,
            state.value,
            records.pack(end) if isinstance(end, Result) else "",
            end.model_dump_json() if isinstance(end, Failure) else "",
            scored,
            callback_body,
            round(callback_ttl / SECOND),
            milliseconds(callback_after),
            int(keep_work),
        ]
        return self._ask("finish", where, args, together=True)

    def release(self, job_id: str, generation: int, *, charge: bool, died: bool = False) -> Outcome:
        """Puts a running job back into its queue. `charge`: its lease was lost or its engine `died`."""
        states = [_from(JobState.QUEUED), JobState.QUEUED.value]
        args = [job_id, generation, *states, int(charge), int(died)]
        return self._ask("release", [keys.job(job_id), keys.RUNNING, keys.UNANNOUNCED], args)

    # -- what the sweeper looks at --------------------------------------------------------------------

    def overdue(self, limit: int) -> list[Overdue]:
        """Running jobs whose lease has ended."""
        with available():
            flat = self.scripts.run("overdue", [keys.RUNNING], [keys.job(""), limit])
        return [
            Overdue(flat[i], int(flat[i + 1]), int(flat[i + 2]), flat[i + 3] == "1")
            for i in range(0, len(flat), 4)
        ]

    def expired(self, limit: int) -> list[tuple[str, JobState | None]]:
        """Jobs with a deadline that has passed: (id, the state in which it must still be; None for any)."""
        with available():
            where, waits = [keys.DEADLINES], JobState.QUEUED.value
            flat = self.scripts.run("expired", where, [keys.job(""), limit, waits])
        return [(flat[i], JobState(flat[i + 1]) if flat[i + 1] else None) for i in range(0, len(flat), 2)]

    def unannounced(self, after: timedelta, limit: int) -> list[str]:
        """Waiting jobs without a doorbell for longer than `after`, oldest first: each once in that time."""
        with available():
            found = self.scripts.run("unannounced", [keys.UNANNOUNCED], [milliseconds(after), limit])
        return cast("list[str]", found)

    def overtaken(self, model: str, lane: Lane, by: timedelta, limit: int) -> list[str]:
        """Waiting jobs whose message is lost: others, announced later by `by`, are claimed already."""
        where = [keys.queued(model, lane), keys.lane(model, lane)]
        args: list[Any] = [keys.job(""), milliseconds(by), limit]
        with available():
            return cast("list[str]", self.scripts.run("overtaken", where, args))

    def forget(self, limit: int) -> int:
        """Takes jobs whose result has expired out of their owners' lists. Returns how many."""
        with available():
            return int(self.scripts.run("forget", [keys.ENDED], [keys.jobs_of(""), limit]))

    def lanes(self) -> list[tuple[str, Lane]]:
        """The (model, lane) of every queue that was ever used."""
        with available():
            names = cast("set[str]", self._redis.smembers(keys.LANES))
        split = (name.removeprefix("podium:queued:").rpartition(":") for name in sorted(names))
        return [(model, Lane(lane)) for model, _, lane in split]

    def depths(self) -> list[Depth]:
        """Of every lane that was ever used."""
        lanes = self.lanes()
        pipeline = self._redis.pipeline(transaction=False)
        for lane in lanes:
            pipeline.zcard(keys.queued(*lane))
            pipeline.hmget(keys.lane(*lane), "tokens", "running")
        with available():
            found: list[Any] = pipeline.execute()
        counts = zip(lanes, found[::2], found[1::2], strict=True)
        return [Depth(*lane, jobs, *(int(n or 0) for n in more)) for lane, jobs, more in counts]

    def waiting(self, model: str, lane: Lane, limit: int) -> list[str]:
        """The oldest waiting jobs of a queue."""
        with available():
            return cast("list[str]", self._redis.zrange(keys.queued(model, lane), 0, limit - 1))

    # -- what readers see -------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """Asks `reading`."""
        return self.ask(self.reading(job_id))

    def reading(self, job_id: str) -> Question[Job | None]:
        """The job, with its result once it has succeeded. None if there is no such job (any more)."""

        def read(answer: Any) -> Job | None:
            if not answer:
                return None
            flat: list[str] = [item.decode() for item in answer[0]]
            position, result, starts = (*answer[1:], None, None, None)[:3]
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields["state"] == JobState.SUCCEEDED and result is None:
                return None  # it expires in this very millisecond
            return records.job_of(job_id, fields, result, position, starts)

        return Question("read", [keys.job(job_id), keys.result(job_id)], [job_id], read, raw=True)

    def work(self, job_id: str) -> Work | None:
        """What an open job, or a failed one that can be run again, was asked for."""
        with available():
            found = self._bytes(keys.work(job_id))
        return None if found is None else records.unpack(Work, found)

    def jobs_of(
        self, owner: str, *, before: tuple[int, str] | None = None
    ) -> Iterator[tuple[tuple[int, str], Job]]:
        """The owner's jobs without results, newest first, with the place (created at ms, id) of each.

        `before`: only those after that place. Reads page by page, as far as it is iterated.
        """
        while True:
            newest = "+inf" if before is None else before[0]
            with available():
                where = keys.jobs_of(owner)
                listed: Any = self._redis.zrevrangebyscore(where, newest, "-inf", 0, PAGE, withscores=True)
                places = [(int(at), str(job_id)) for job_id, at in listed]
                places = [place for place in places if before is None or place < before]
                pipeline = self._redis.pipeline(transaction=False)
                for _, job_id in places:
                    pipeline.hgetall(keys.job(job_id))
                found = pipeline.execute()
            for place, fields in zip(places, found, strict=True):
                if fields:  # else it has expired
                    yield place, records.job_of(place[1], fields)
            if not places:
                return
            before = places[-1]

    def erase(self, job_id: str, owner: str) -> Outcome:
        """Forgets an ended job of `owner` with all that belongs to it, also a callback that is still due."""
        where = [
            keys.job(job_id),
            keys.result(job_id),
            keys.work(job_id),
            keys.callback(job_id),
            keys.CALLBACKS,
            keys.ENDED,
            keys.jobs_of(owner),
        ]
        ended = ",".join(state.value for state in JobState if state.terminal)
        return self._ask("erase", where, [job_id, owner, ended])

    # -- callbacks ------------------------------------------------------------------------------------------

    def due_callbacks(self, hold: timedelta, limit: int) -> list[str]:
        """Callbacks to ring for. Each is due again after `hold`, unless its attempt is settled before."""
        with available():
            due = self.scripts.run("callbacks_due", [keys.CALLBACKS], [milliseconds(hold), limit])
        return cast("list[str]", due)

    def callback(self, job_id: str) -> CallbackRecord | None:
        with available():
            fields = cast("dict[str, str]", self._redis.hgetall(keys.callback(job_id)))
        return records.callback_of(job_id, fields) if fields else None

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

    def replay_callback(self, job_id: str, hold: timedelta) -> Outcome:
        """Makes a settled callback due again. REFUSED while it is pending. Ring for it after an OK."""
        where = [keys.callback(job_id), keys.CALLBACKS, keys.job(job_id)]
        return self._ask("callback_replay", where, [job_id, milliseconds(hold)])

    # -- workers --------------------------------------------------------------------------------------------

    def heartbeat(self, worker: str, about: dict[str, Any], ttl: timedelta) -> None:
        pipeline = self._redis.pipeline()
        pipeline.set(keys.worker(worker), json.dumps(about), px=milliseconds(ttl))
        pipeline.sadd(keys.WORKERS, worker)
        pipeline.pexpire(keys.WORKERS, milliseconds(ttl))
        with available():
            pipeline.execute()

    def retire(self, worker: str) -> None:
        with available():
            self._redis.delete(keys.worker(worker))

    def workers(self) -> list[dict[str, Any]]:
        """What each live worker says of itself."""
        with available():
            names = sorted(cast("set[str]", self._redis.smembers(keys.WORKERS)))
            found = cast("list[str | None]", self._redis.mget(map(keys.worker, names))) if names else []
            gone = [name for name, about in zip(names, found, strict=True) if about is None]
            if gone:
                self._redis.srem(keys.WORKERS, *gone)  # one that lives is back with its next beat
        return [json.loads(about) for about in found if about]

    def _bytes(self, key: str) -> bytes | None:
        call: Any = self._redis.execute_command
        return cast("bytes | None", call("GET", key, NEVER_DECODE=True))

    def _ask(self, script: str, where: list[str], args: list[Any], *, together: bool = False) -> Outcome:
        with available():
            return Outcome(self.scripts.run(script, where, args, together=together))


def _from(state: JobState) -> str:
    return ",".join(predecessors(state))
