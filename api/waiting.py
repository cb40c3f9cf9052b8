"""Lets a request wait for its job's end: one subscription to Redis for the whole process."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from redis import asyncio as aioredis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from jobs import keys
from jobs.model import Job
from jobs.states import JobState

log = logging.getLogger(__name__)

LOOK_ANYWAY = 5.0
"""Seconds after which a waiter reads its job untold: events are a hint, the store is the truth."""

PAUSES = ExponentialWithJitterBackoff(base=0.5, cap=10)
"""Seconds between two tries to subscribe."""


ENDS = tuple(keys.EVENTS + state.value for state in JobState if state.terminal)


class Waiting:
    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    @property
    def count(self) -> int:
        """How many jobs are waited for now."""
        return len(self._waiters)

    async def listen(self) -> None:
        """Wakes waiters as events come in, until it is cancelled."""
        failures = 0
        while True:
            client = aioredis.Redis.from_url(self._url, decode_responses=True)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(*ENDS)
                    failures = 0
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self._wake(message["data"])
            except (RedisError, OSError) as error:
                log.warning("no events from Redis, waiters look by themselves: %s", error)
                failures += 1
                await asyncio.sleep(PAUSES.compute(failures))
            finally:
                await client.aclose()

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
        self, look: Callable[[], Awaitable[Job]], seconds: float, told: asyncio.Event, *, new: bool = False
    ) -> Job:
        """What `look` sees as soon as the job has ended, or after `seconds`.

        `new`: it was watched before it was stored, so there is nothing to see yet.
        """
        clock = asyncio.get_running_loop()
        deadline = clock.time() + seconds
        while True:
            if not new:
                told.clear()
                seen = await look()
                if seen.state.terminal or clock.time() >= deadline:
                    return seen
            new = False
            try:
                await asyncio.wait_for(told.wait(), min(deadline - clock.time(), LOOK_ANYWAY))
            except TimeoutError:
                continue

    def _wake(self, job_id: str) -> None:
        for changed in self._waiters.get(job_id, ()):
            changed.set()
