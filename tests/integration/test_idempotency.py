"""Idempotency-Key: a request that is sent again makes no second job."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.accepting import accept
from api.app import create_app
from jobs.async_store import AsyncStore
from jobs.model import Job
from jobs.queue import Doorbell, queue_name
from jobs.settings import Settings
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import new_job
from worker.runner import Runner

GOOD: dict[str, Any] = {"query": "blue sky", "documents": ["red apple", "blue sky"]}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False)) as client:
        yield client


def test_the_same_key_and_body_find_the_same_job(client: TestClient, runner: Runner, redis: Redis) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = client.post("/v1/jobs", json=GOOD, headers=key)
    runner.run(first.json()["id"])
    again = client.post("/v1/jobs", json=GOOD, headers=key)
    assert (again.status_code, again.json()["status"]) == (202, "succeeded")
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert redis.llen("score.minilm.interactive") == 1, "rung for once"


def test_ten_at_the_same_time_make_one_job(client: TestClient, redis: Redis) -> None:
    def send(_: int) -> str:
        answer = client.post("/v1/jobs", json=GOOD, headers={"Idempotency-Key": "same"})
        return str(answer.json()["id"])

    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(send, range(10)))) == 1
    assert redis.zcard("podium:queued:minilm:interactive") == 1


def test_the_same_key_with_another_body_is_a_conflict_and_stores_nothing(
    client: TestClient, redis: Redis
) -> None:
    key = {"Idempotency-Key": "order-7"}
    client.post("/v1/jobs", json=GOOD, headers=key)
    size = redis.dbsize()
    answer = client.post("/v1/jobs", json={**GOOD, "top_n": 1}, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
    assert redis.dbsize() == size


def test_a_job_whose_acceptance_was_answered_into_a_lost_connection_is_found(
    store: Store, doorbell: Doorbell, settings: Settings, redis: Redis
) -> None:
    """The client sends the same script again, and it is this very job that has the id."""
    job = new_job()

    async def twice() -> list[tuple[str, Job]]:
        jobs = AsyncStore(store, settings.redis_url)
        try:
            return [await accept(job, jobs, doorbell, settings) for _ in range(2)]
        finally:
            await jobs.close()

    (first, _), (again, seen) = asyncio.run(twice())
    assert (first, again, seen.state) == (job.id, job.id, JobState.QUEUED)
    assert redis.llen(queue_name(job.model, job.lane)) == 1


def test_a_key_that_outlives_its_job_answers_410(client: TestClient, redis: Redis) -> None:
    key = {"Idempotency-Key": "order-7"}
    job_id = client.post("/v1/jobs", json=GOOD, headers=key).json()["id"]
    redis.delete(f"podium:job:{job_id}", f"podium:work:{job_id}")  # as when its result_ttl has passed
    answer = client.post("/v1/jobs", json=GOOD, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (410, "job_erased")


def test_keys_of_two_callers_have_nothing_to_do_with_each_other(settings: Settings, redis: Redis) -> None:
    assert redis.dbsize() == 0
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a,bob:key-b")})
    with TestClient(create_app(keyed, page=False)) as client:
        ids = {
            client.post(
                "/v1/jobs",
                json=GOOD,
                headers={"Idempotency-Key": "same", "Authorization": f"Bearer {key}"},
            ).json()["id"]
            for key in ("key-a", "key-b")
        }
    assert len(ids) == 2


def test_what_is_given_as_it_would_be_by_default_is_the_same_request(client: TestClient) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = client.post("/v1/jobs", json=GOOD, headers=headers).json()
    again = client.post("/v1/jobs", json={**GOOD, "top_n": None, "lane": "interactive"}, headers=headers)
    assert again.json()["id"] == first["id"]


def test_it_is_remembered_for_24_hours_and_a_key_has_a_length(client: TestClient, redis: Redis) -> None:
    client.post("/v1/jobs", json=GOOD, headers={"Idempotency-Key": "order-7"})
    (remembered,) = redis.keys("podium:idempotency:*")
    assert 86_000 < redis.ttl(remembered) <= 86_400
    assert "order-7" not in str(remembered), "a caller's key may be a secret"
    answer = client.post("/v1/jobs", json=GOOD, headers={"Idempotency-Key": "x" * 256})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "header.idempotency-key")
