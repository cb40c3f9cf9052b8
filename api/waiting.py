"""Lets a request wait for its job's end: one subscription to Redis for the whole process."""

import asyncio
import logging
from collections import defaultdict

from redis import asyncio as aioredis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from jobs import keys
from jobs.model import Job
from jobs.store import Store

log = logging.getLogger(__name__)

LOOK_ANYWAY = 5.0
"""Seconds after which a waiter reads its job untold: events are a hint, the store is the truth."""

PAUSES = ExponentialWithJitterBackoff(base=0.5, cap=10)
"""Seconds between two tries to subscribe."""


class Waiting:
    def __init__(self, store: Store, redis_url: str) -> None:
        self._store = store
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
                    await subscription.subscribe(keys.EVENTS)
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

    async def ended(self, job_id: str, seconds: float) -> Job | None:
        """The job as soon as it has ended, or as it is after `seconds`. None if there is no such job."""
        deadline = asyncio.get_running_loop().time() + seconds
        changed = asyncio.Event()
        self._waiters[job_id].add(changed)
        try:
            while True:
                changed.clear()
                job = await asyncio.to_thread(self._store.get, job_id)
                left = deadline - asyncio.get_running_loop().time()
                if job is None or job.state.terminal or left <= 0:
                    return job
                try:
                    await asyncio.wait_for(changed.wait(), min(left, LOOK_ANYWAY))
                except TimeoutError:
                    continue
        finally:
            self._waiters[job_id].discard(changed)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    def _wake(self, job_id: str) -> None:
        for changed in self._waiters.get(job_id, ()):
            changed.set()
