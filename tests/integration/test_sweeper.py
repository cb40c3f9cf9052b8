"""The sweeper: what was never announced, what lost its message, what Redis' absence must not cost."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from redis import Redis

from jobs.errors import StoreUnavailable
from jobs.model import Lane, Overdue
from jobs.queue import Doorbell
from jobs.settings import Settings, load
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import LEASE, new_job
from tests.support.waiting import until
from worker.sweeper import Sweeper


@pytest.fixture
def sweeper(settings: Settings, store: Store, doorbell: Doorbell) -> Sweeper:
    return Sweeper(store, doorbell, settings)


def test_a_job_that_was_never_announced_is_rung_for_once(
    settings: Settings, store: Store, redis: Redis, doorbell: Doorbell
) -> None:
    store.create(new_job())
    Sweeper(store, doorbell, settings).sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 0, "its API may be about to ring"
    later = Sweeper(Store(redis, offset=timedelta(seconds=6)), doorbell, settings)
    later.sweep()
    later.sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 1


def test_a_long_backlog_is_not_taken_for_lost(sweeper: Sweeper, store: Store, doorbell: Doorbell) -> None:
    for number in range(20):
        store.create(new_job(f"job-{number}"))
        doorbell.announce(f"job-{number}", "minilm", Lane.INTERACTIVE)
        store.announced([f"job-{number}"])
    for _ in range(5):
        sweeper.sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 20


def test_a_queue_that_lost_its_messages_is_rung_for_again(
    sweeper: Sweeper, store: Store, redis: Redis, doorbell: Doorbell
) -> None:
    for number in range(3):
        store.create(new_job(f"job-{number}"))
        doorbell.announce(f"job-{number}", "minilm", Lane.INTERACTIVE)
        store.announced([f"job-{number}"])
    redis.delete("score.minilm.interactive")
    sweeper.sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 0, "a worker may just have taken them"
    sweeper.sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 3


def test_a_job_whose_message_is_lost_is_rung_for_again_when_others_overtake_it(
    redis: Redis, doorbell: Doorbell, settings: Settings
) -> None:
    """Also in a queue that is never empty: another one's message lies in the list all the time."""
    for number, seconds in enumerate((0, 1, 20, 21)):
        then = Store(redis, offset=timedelta(seconds=seconds))
        then.create(new_job(f"job-{number}"))
        then.announced([f"job-{number}"])
    doorbell.announce("job-3", "minilm", Lane.INTERACTIVE)
    sweeper = Sweeper(Store(redis, offset=timedelta(seconds=30)), doorbell, settings)
    sweeper.sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 1, "a backlog: nothing has overtaken anything"
    Store(redis).claim("job-2", "worker-1", LEASE)
    for _ in range(3):
        sweeper.ring_again()
    assert announced_ids(redis) == ["job-3", "job-0", "job-1"]


def test_overtaking_is_seen_also_by_jobs_that_are_claimed_before_their_ringing_is_noted(
    redis: Redis, doorbell: Doorbell, settings: Settings
) -> None:
    lost, quick = Store(redis), Store(redis, offset=timedelta(seconds=20))
    lost.create(new_job("lost"))
    lost.announced(["lost"])
    quick.create(new_job("quick"))
    doorbell.announce("quick", "minilm", Lane.INTERACTIVE)
    quick.claim("quick", "worker-1", LEASE)
    quick.announced(["quick", "gone"])
    Sweeper(Store(redis, offset=timedelta(seconds=30)), doorbell, settings).ring_again()
    assert announced_ids(redis) == ["quick", "lost"]
    assert redis.exists("podium:job:gone") == 0, "nothing is noted of a job that is gone"


def announced_ids(redis: Redis) -> list[str]:
    """The ids in the interactive lane's list, in the order in which workers will take them."""
    raw = redis.lrange("score.minilm.interactive", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(raw)]


@pytest.mark.timeout(200)
def test_a_backlog_of_20_000_is_announced_exactly_once_each_by_two_sweepers(
    redis: Redis, doorbell: Doorbell, settings: Settings
) -> None:
    ids = [f"job-{number}" for number in range(20_000)]
    store = Store(redis)
    for job_id in ids:
        store.create(new_job(job_id))
    later = Store(redis, offset=timedelta(seconds=6))
    sweepers = [Sweeper(later, doorbell, settings) for _ in range(2)]

    def all_announced() -> bool:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(Sweeper.ring_again, sweepers))
        return redis.zcard("podium:unannounced") == 0

    until("all are announced", all_announced, 150)
    assert sorted(announced_ids(redis)) == sorted(ids)
    for seconds in (60, 600):
        Sweeper(Store(redis, offset=timedelta(seconds=seconds)), doorbell, settings).ring_again()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 20_000, "a backlog is not lost"


class Outage(Store):
    """A store that can't be reached while `away`; then again."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.away = True
        self.missed, self.swept = threading.Event(), threading.Event()

    def overdue(self, limit: int) -> list[Overdue]:
        if self.away:
            self.missed.set()
            raise StoreUnavailable("away, on purpose")
        found = super().overdue(limit)
        self.swept.set()
        return found


@pytest.fixture
def outage(redis: Redis, doorbell: Doorbell, settings: Settings) -> Iterator[Outage]:
    """Redis is away, and the lease of a running job ended meanwhile. The sweeper has just noticed."""
    fast = load({"PODIUM_JOBS__LEASE": "1.5", "PODIUM_JOBS__SWEEP": "0.05"}).jobs
    store = Outage(redis)
    store.create(new_job())
    store.claim("job-1", "worker-1", timedelta(milliseconds=1))
    sweeper = Sweeper(store, doorbell, settings.model_copy(update={"jobs": fast}))
    sweeper.start()
    assert store.missed.wait(5)
    yield store
    sweeper.close()


def test_after_a_redis_outage_nothing_is_taken_back_for_one_lease(outage: Outage) -> None:
    outage.away, back = False, time.monotonic()
    assert outage.swept.wait(10)
    assert time.monotonic() - back > 1.0, "the worker had no time to renew its lease"
    until("taken back", lambda: (job := outage.get("job-1")) and job.state is JobState.QUEUED, 5)


def test_a_renewal_during_that_lease_keeps_the_job(outage: Outage) -> None:
    outage.away = False
    outage.renew([("job-1", 1, 0)], LEASE)
    assert outage.swept.wait(10)
    outage.swept.clear()
    assert outage.swept.wait(10), "a whole round has passed"
    job = outage.get("job-1")
    assert job is not None
    assert (job.state, job.attempts) == (JobState.RUNNING, 0)
