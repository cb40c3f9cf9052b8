"""Lets a request wait for its job's end: one subscription to Redis for the whole process."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from redis import asyncio as aioredis
from redis.asyncio.client import PubSub
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from api.looking import Look, Looks
from jobs import keys
from jobs.states import JobState

log = logging.getLogger(__name__)

LOOK_ANYWAY = 15.0
"""Seconds after which a waiter reads its job untold: events are a hint, the store is the truth."""

SILENCE = 5.0
"""Seconds after which Redis is asked whether the subscription lives, and seconds that it has to answer."""

PAUSES = ExponentialWithJitterBackoff(base=0.5, cap=10)
"""Seconds between two tries to subscribe."""


ENDS = tuple(keys.EVENTS + state.value for state in JobState if state.terminal)


class Waiting:
    def __init__(self, redis_url: str, looks: Looks) -> None:
        self._url = redis_url
        self._looks = looks
        self._failures = 0
        self._heard = 0
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    @property
    def count(self) -> int:
        """How many requests wait now."""
        return sum(map(len, self._waiters.values()))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Wakes waiters as events come in, while the block runs."""
        listener = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            while not listener.done():  # a cancel that meets redis-py as it connects can be lost there
                listener.cancel()
                await asyncio.wait([listener], timeout=0.5)

    async def _listen(self) -> None:
        while True:
            client = aioredis.Redis.from_url(self._url, decode_responses=True, health_check_interval=0)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(*ENDS)
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._hear(subscription))
                        both.create_task(self._ask(subscription))
            except* (RedisError, OSError) as errors:
                log.warning("no events from Redis, waiters look by themselves: %s", errors.exceptions[0])
                self._failures += 1
                await asyncio.sleep(PAUSES.compute(self._failures))
            finally:
                await client.aclose()

    async def _hear(self, subscription: PubSub) -> None:
        async for message in subscription.listen():
            self._heard += 1
            match message:
                case {"type": "subscribe", "data": count} if count == len(ENDS):
                    self._failures = 0
                    for job_id in self._waiters:
                        self._wake(job_id)  # what was published before, nobody has heard
                case {"type": "message", "data": job_id}:
                    self._wake(job_id)

    async def _ask(self, subscription: PubSub) -> None:
        """Raises `ConnectionError` when Redis says nothing any more, not even when it is asked to."""
        while True:
            before = self._heard
            await asyncio.sleep(SILENCE)
            if self._heard == before:
                await subscription.ping()
                await asyncio.sleep(SILENCE)
                if self._heard == before:
                    raise ConnectionError("the subscription does not answer")

    @contextmanager
    def watched(self, job_id: str) -> Iterator[asyncio.Event]:
        """Set when the job ends, from now on: watch it, then look, and no end goes unseen."""
        told = asyncio.Event()
        self._waiters[job_id].add(told)
        try:
            yield told
        finally:
            self._waiters[job_id].discard(told)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    async def ended(
        self, job_id: str, owner: str, seconds: float, told: asyncio.Event, *, new: bool = False
    ) -> Look:
        """The job as soon as it has ended, or after `seconds`. `told`: by `watched`. Raises `JobNotFound`.

        `new`: it was watched before it was stored, so there is nothing to see yet.
        """
        clock = asyncio.get_running_loop()
        deadline = clock.time() + seconds
        while True:
            if not new:
                told.clear()
                look = await self._looks.at(job_id, owner)
                if look.job.state.terminal or clock.time() >= deadline:
                    return look
            new = False
            with suppress(TimeoutError):
                async with asyncio.timeout(min(deadline - clock.time(), LOOK_ANYWAY)):
                    await told.wait()

    def _wake(self, job_id: str) -> None:
        for changed in self._waiters.get(job_id, ()):
            changed.set()
