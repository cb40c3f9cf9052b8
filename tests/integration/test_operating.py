"""What an operator does by HTTP: list jobs, run failed ones again, look at callbacks and replay them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from jobs.model import Claim, Failure
from jobs.settings import Limits, Settings
from jobs.states import CallbackState, JobState, Outcome
from jobs.store import Store
from worker.runner import Ended, Runner

GOOD: dict[str, Any] = {"query": "blue sky", "documents": ["red apple", "blue sky"]}
ME, YOU = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    keyed = settings.model_copy(
        update={
            "api_keys": SecretStr("me:one,you:two"),
            "limits": Limits(queue_tokens=1_000, queue_jobs=10),
        }
    )
    with TestClient(create_app(keyed, page=False), raise_server_exceptions=False) as client:
        yield client


def create(client: TestClient, **more: Any) -> str:
    answer = client.post("/v1/jobs", json={**GOOD, **more}, headers=ME)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def poison(store: Store, job_id: str) -> None:
    why = Failure(code="poison", message="x")
    assert store.finish(job_id, None, JobState.FAILED, why, keep_work=True) is Outcome.OK


def test_jobs_are_listed_page_by_page_the_newest_first(client: TestClient) -> None:
    ids = [create(client) for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/v1/jobs", params={"limit": 2, **cursor}, headers=ME).json()
        assert len(page["jobs"]) <= 2
        seen += [job["id"] for job in page["jobs"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    created = {job["id"]: job["created_at"] for job in client.get("/v1/jobs", headers=ME).json()["jobs"]}
    assert sorted(seen) == sorted(ids)
    assert [created[job_id] for job_id in seen] == sorted(created.values(), reverse=True)


def test_failed_jobs_are_listed_and_no_other_keys_jobs(client: TestClient, store: Store) -> None:
    failed, _ = create(client), create(client)
    poison(store, failed)
    found = client.get("/v1/jobs", params={"status": "failed"}, headers=ME).json()["jobs"]
    assert [(job["id"], job["error"]["code"]) for job in found] == [(failed, "poison")]
    assert client.get("/v1/jobs", headers=YOU).json() == {"jobs": []}
    assert client.get("/v1/jobs", params={"cursor": "nonsense"}, headers=ME).status_code == 422


def test_a_poison_job_runs_again_as_a_new_job_and_only_once(
    client: TestClient, store: Store, runner: Runner
) -> None:
    failed = create(client)
    poison(store, failed)
    assert client.post(f"/v1/jobs/{failed}/retry", headers=YOU).status_code == 404
    answers = [client.post(f"/v1/jobs/{failed}/retry", headers=ME) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {202}
    (again,) = {answer.json()["id"] for answer in answers}
    assert again != failed
    assert runner.run(again) is Ended.SUCCEEDED
    assert client.get(f"/v1/jobs/{failed}", headers=ME).json()["status"] == "failed", "an end is an end"


def test_a_job_that_has_not_failed_is_not_retried(client: TestClient, runner: Runner) -> None:
    done = create(client)
    runner.run(done)
    answer = client.post(f"/v1/jobs/{done}/retry", headers=ME)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")


def test_a_callback_is_shown_with_its_attempts_and_replayed(
    client: TestClient, store: Store, runner: Runner
) -> None:
    job_id = create(client, callback={"url": "https://example.com/hook"})
    where = f"/v1/jobs/{job_id}/callback"
    assert client.get(where, headers=ME).status_code == 404, "nothing to call back about yet"
    runner.run(job_id)
    assert client.get(where, headers=YOU).status_code == 404
    assert client.get(where, headers=ME).json()["status"] == "pending"
    assert client.post(f"{where}/replay", headers=ME).json()["code"] == "callback_pending"
    attempt = {"at": "2026-11-24T12:00:00+00:00", "status": 204, "answer": "", "seconds": 0.1}
    store.settle_callback(job_id, CallbackState.DELIVERED, attempt, None)
    assert client.get(where, headers=ME).json() == {
        "status": "delivered",
        "url": "https://example.com/hook",
        "attempts": [attempt],
    }
    answer = client.post(f"{where}/replay", headers=ME)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert client.get(f"/v1/jobs/{job_id}", headers=ME).json()["callback"] == {"status": "pending"}


def test_a_full_lane_is_429_and_stores_nothing(client: TestClient, redis: Redis) -> None:
    big = "word " * 200  # about 250 tokens with each of two documents
    body = {"query": big, "documents": ["a", "b"]}
    statuses = [client.post("/v1/jobs", json=body, headers=ME).status_code for _ in range(3)]
    assert statuses == [202, 429, 429]
    before = redis.dbsize()
    answer = client.post("/v1/jobs", json=body, headers=ME)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) == 30, "nothing drains this lane"
    assert redis.dbsize() == before
    assert client.post("/v1/jobs", json={**body, "lane": "bulk"}, headers=ME).status_code == 202


def test_a_lane_is_bounded_in_jobs_too(client: TestClient) -> None:
    statuses = [client.post("/v1/jobs", json=GOOD, headers=ME).status_code for _ in range(12)]
    assert statuses == [202] * 10 + [429] * 2


def test_a_full_lane_still_finds_the_job_of_an_idempotency_key(client: TestClient) -> None:
    headers = {**ME, "Idempotency-Key": "k"}
    first = client.post("/v1/jobs", json=GOOD, headers=headers).json()["id"]
    for _ in range(12):
        last = client.post("/v1/jobs", json=GOOD, headers=ME).status_code
    assert last == 429
    assert client.post("/v1/jobs", json=GOOD, headers=headers).json()["id"] == first


def test_a_job_that_no_queue_could_ever_hold_is_413(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json={**GOOD, "documents": ["word " * 2_000]}, headers=ME)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (413, "documents")


def test_retry_after_comes_from_the_measured_drain_rate_and_grows_with_those_who_wait(
    client: TestClient, redis: Redis, store: Store
) -> None:
    big = {"query": "word " * 70, "documents": ["a", "b", "c", "d"]}  # 4 times 88 tokens

    def retry_after() -> int:
        return int(client.post("/v1/jobs", json=big, headers=ME).headers["Retry-After"])

    ten_seconds_ago = Store(redis, offset=timedelta(seconds=-10))
    job_id = create(client, **big)
    assert isinstance(ten_seconds_ago.claim(job_id, "worker-1", timedelta(seconds=60)), Claim)
    store.finish(job_id, 1, JobState.FAILED, Failure(code="x", message="x"))  # 352 tokens in 10 s
    while client.post("/v1/jobs", json=big, headers=ME).status_code == 202:
        pass
    # 56 tokens are missing, then 352 more for each: a tenth more, and a second
    assert [retry_after() for _ in range(3)] == pytest.approx([14, 25, 36], abs=2)
