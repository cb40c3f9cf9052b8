"""Jobs that end without a result: cancelled by their caller, or expired by a deadline."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from jobs.ending import Ending
from jobs.model import CallbackTarget, Claim, Failure, Job
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store
from tests.conftest import LEASE, new_job
from tests.support.keyspace import held
from tests.support.waiting import until
from worker.coalescer import Coalescer
from worker.engines.fake import FakeEngine
from worker.engines.thread import EngineThread
from worker.leases import Leases
from worker.runner import Ended, Runner
from worker.sweeper import Sweeper

GOOD = {"query": "blue sky", "documents": ["zanzibar", "blue sky"]}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False)) as client:
        yield client


@pytest.fixture
def slow(runner: Runner, store: Store) -> Iterator[Runner]:
    """A runner whose engine takes 50 ms for each document, with leases renewed each 0.1 s."""
    engine = FakeEngine(step_tokens=1, step_seconds=0.05)
    coalescer = Coalescer(engine, EngineThread(), window_tokens=8_192)
    leases = Leases(store, timedelta(seconds=0.3))
    coalescer.start()
    leases.start()
    yield replace(runner, engine=engine, coalescer=coalescer, leases=leases, worker="slow-worker")
    leases.close()
    coalescer.close()


def get(store: Store, job_id: str = "job-1") -> Job:
    job = store.get(job_id)
    assert job is not None
    return job


def test_a_queued_job_is_cancelled_at_once_and_never_runs(
    client: TestClient, redis: Redis, store: Store, runner: Runner
) -> None:
    job_id = client.post("/v1/jobs", json=GOOD).json()["id"]
    job = client.post(f"/v1/jobs/{job_id}/cancel").json()
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    assert runner.run(job_id) is Ended.NOT_OURS
    assert "zanzibar" not in held(redis, f"podium:job:{job_id}")
    assert redis.ttl(f"podium:job:{job_id}") > 0
    assert store.waiting("minilm", new_job().lane, 10) == []


def test_cancelling_what_has_ended_is_a_409_that_says_how(client: TestClient, runner: Runner) -> None:
    job_id = client.post("/v1/jobs", json=GOOD).json()["id"]
    runner.run(job_id)
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_ended")
    assert "succeeded" in answer.json()["detail"]
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"
    assert client.post("/v1/jobs/no-such-job/cancel").status_code == 404


def test_another_keys_job_can_not_be_cancelled(settings: Settings, redis: Redis) -> None:
    assert redis.dbsize() == 0
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a,bob:key-b")})
    with TestClient(create_app(keyed, page=False)) as client:
        ann, bob = ({"Authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
        job_id = client.post("/v1/jobs", json=GOOD, headers=ann).json()["id"]
        assert client.post(f"/v1/jobs/{job_id}/cancel", headers=bob).status_code == 404
        assert client.get(f"/v1/jobs/{job_id}", headers=ann).json()["status"] == "queued"


def test_a_running_jobs_unscored_documents_are_dropped(
    client: TestClient, store: Store, slow: Runner
) -> None:
    body = {"query": "q", "documents": [f"document {n}" for n in range(400)]}
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    ended: list[Ended] = []
    worker = threading.Thread(target=lambda: ended.append(slow.run(job_id)))
    worker.start()
    until("some are scored", lambda: get(store, job_id).scored, 10)
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    worker.join(5)
    assert ended == [Ended.NOT_OURS], "400 documents would take 20 s"
    steps = slow.engine.statistics()["steps"]
    other = client.post("/v1/jobs", json={"query": "q", "documents": ["one"]}).json()["id"]
    assert slow.run(other) is Ended.SUCCEEDED
    assert slow.engine.statistics()["steps"] <= steps + 3, "the engine goes on with what nobody waits for"
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["status"] == "cancelled"
    assert 0 < job["progress"]["scored"] < 400


def test_a_callback_tells_of_the_cancelling(store: Store, doorbell: Doorbell, settings: Settings) -> None:
    store.create(new_job(callback=CallbackTarget(url="https://example.com/hook")))
    why = Failure(code="cancelled", message="m")
    Ending(store, doorbell, settings).of_job(get(store), JobState.CANCELLED, why, generation=None)
    record = store.callback("job-1")
    assert record is not None
    body = json.loads(record.body or "")
    assert (body["type"], body["data"]["status"]) == ("job.cancelled", "cancelled")


def expired(store: Store, why: str) -> None:
    job = get(store)
    assert job.state is JobState.EXPIRED
    assert job.error is not None
    assert why in job.error.message


def create(store: Store, *, start: int | None = None, finish: int | None = None) -> None:
    within = {
        "start_within": None if start is None else timedelta(seconds=start),
        "finish_within": None if finish is None else timedelta(seconds=finish),
    }
    store.create(new_job().model_copy(update=within))


def sweep(redis: Redis, doorbell: Doorbell, settings: Settings, after: float) -> int:
    """How many have expired."""
    sweeper = Sweeper(Store(redis, offset=timedelta(seconds=after)), doorbell, settings)
    sweeper.expire()
    return sweeper.mended.all()["expired"]


def test_a_job_that_did_not_start_in_time_expires(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    create(store, start=60)
    assert sweep(redis, doorbell, settings, 55) == 0
    assert get(store).state is JobState.QUEUED
    assert sweep(redis, doorbell, settings, 65) == 1
    expired(store, "did not start")


def test_a_job_that_started_in_time_may_take_longer(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    create(store, start=60)
    assert isinstance(store.claim("job-1", "worker-1", LEASE), Claim)
    sweep(redis, doorbell, settings, 3600)
    assert get(store).state is JobState.RUNNING
    store.release("job-1", 1, charge=False)
    sweep(redis, doorbell, settings, 3600)
    assert get(store).state is JobState.QUEUED, "it has started once: a hand-back does not end it"


def test_a_job_that_did_not_end_in_time_expires_also_while_it_runs(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    create(store, start=60, finish=120)
    claim = store.claim("job-1", "worker-1", LEASE)
    assert isinstance(claim, Claim)
    sweep(redis, doorbell, settings, 115)
    assert get(store).state is JobState.RUNNING
    sweep(redis, doorbell, settings, 125)
    expired(store, "did not end")
    assert store.renew([("job-1", claim.generation, 1)], LEASE) == [Outcome.REFUSED]
    late = Failure(code="late", message="late")
    assert store.finish("job-1", claim.generation, JobState.FAILED, late) is Outcome.REFUSED


@pytest.mark.parametrize(("start", "finish"), [(60, None), (None, 60), (60, 600)])
def test_late_work_is_refused_at_its_claim_before_it_costs_a_token(
    store: Store, redis: Redis, runner: Runner, start: int | None, finish: int | None
) -> None:
    create(store, start=start, finish=finish)
    later = Store(redis, offset=timedelta(seconds=61))
    assert later.claim("job-1", "worker-1", LEASE) is Outcome.LATE
    assert runner.engine.statistics()["tokens"] == 0


def test_deadlines_leave_with_their_job(store: Store, redis: Redis, runner: Runner) -> None:
    create(store, start=60, finish=120)
    runner.run("job-1")
    assert get(store).state is JobState.SUCCEEDED
    assert redis.zcard("podium:deadlines") == 0


def test_the_api_takes_the_three_times_apart(client: TestClient, redis: Redis) -> None:
    times = {"start_within": 5, "finish_within": 50, "result_ttl": 500}
    job_id = client.post("/v1/jobs", json={**GOOD, **times}).json()["id"]
    fields = redis.hgetall(f"podium:job:{job_id}")
    created = int(fields["created_at"])
    assert int(fields["start_by"]) - created == 5_000
    assert int(fields["finish_by"]) - created == 50_000
    assert int(fields["result_ttl"]) == 500
