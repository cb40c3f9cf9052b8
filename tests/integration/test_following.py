"""A job is followed as a stream of events, tells when it will begin, and is erased when its owner asks."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from jobs.model import Job
from jobs.scripts import Question
from jobs.settings import Settings
from jobs.store import Store
from tests.support.keyspace import keys
from tests.support.serving import serving
from tests.support.waiting import until
from worker.runner import Runner

GOOD: dict[str, Any] = {"query": "blue sky", "documents": ["red apple", "blue sky"]}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False)) as client:
        yield client


def read(lines: Iterator[str]) -> dict[str, Any]:
    """The next event of a stream."""
    event: dict[str, Any] = {}
    for line in lines:
        if not line and event:
            return event
        name, _, value = line.partition(": ")
        if name:
            event[name] = json.loads(value) if name == "data" else value
    raise AssertionError("the stream has ended")


def test_events_tell_each_change_as_it_comes_and_go_on_where_they_were_left(
    settings: Settings, runner: Runner
) -> None:
    with serving(create_app(settings, page=False)) as port, httpx.Client(trust_env=False) as http:
        url = f"http://127.0.0.1:{port}/v1/jobs"
        first = http.post(url, json=GOOD).json()["id"]
        job_id = http.post(url, json=GOOD).json()["id"]
        stream = f"{url}/{job_id}/events"
        with http.stream("GET", stream) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            events = [read(lines)]
            runner.run(first)
            events.append(read(lines))
            runner.run(job_id)
            events.append(read(lines))
            assert list(lines) == [], "the end of the job is the end of the stream"
        with http.stream("GET", stream, headers={"Last-Event-ID": events[1]["id"]}) as answer:
            lines = answer.iter_lines()
            assert read(lines) == events[2]
            assert list(lines) == []
        assert http.get(stream, headers={"Last-Event-ID": events[2]["id"]}).status_code == 204
        final = http.get(f"{url}/{job_id}").json()
    assert [event["event"] for event in events] == ["queued", "queued", "succeeded"]
    assert [event["data"].get("queue_position") for event in events] == [1, 0, None]
    assert all(before["id"] != after["id"] for before, after in pairwise(events))
    assert events[2]["data"] == final
    assert final["results"][0]["index"] == 1


def test_an_event_is_whole_whatever_its_texts_hold(client: TestClient, runner: Runner) -> None:
    text = "line\x85line\u2028line\x0bline\r\nline \x1e \U0001f600"
    body = {**GOOD, "documents": [text], "return_documents": True, "metadata": {text: text}}
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    runner.run(job_id)
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        raw = b"".join(answer.iter_raw())
    (data,) = [line.removeprefix(b"data: ") for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert json.loads(data) == client.get(f"/v1/jobs/{job_id}").json()
    assert json.loads(data)["results"][0]["document"]["text"] == text


def test_many_who_wait_for_one_job_share_a_look_at_it(settings: Settings, runner: Runner) -> None:
    app = create_app(settings, page=False)
    looks = 0
    store: Store = app.state.store
    reading = store.reading

    def counted(job_id: str) -> Question[Job | None]:
        nonlocal looks
        looks += 1
        return reading(job_id)

    async def wait_for(url: str, count: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=60) as http:
            return list(await asyncio.gather(*(http.get(url) for _ in range(count))))

    with serving(app) as port, httpx.Client(trust_env=False) as http:
        url = f"http://127.0.0.1:{port}/v1/jobs"
        job_id = http.post(url, json=GOOD).json()["id"]
        with patch.object(store, "reading", counted), ThreadPoolExecutor(1) as callers:
            waiting = callers.submit(lambda: asyncio.run(wait_for(f"{url}/{job_id}?wait=30", 100)))
            until("all wait", lambda: app.state.waiting.count == 100, 20)
            before = looks
            runner.run(job_id)
            answers = waiting.result(30)
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}
    assert len({answer.content for answer in answers}) == 1
    assert 1 <= looks - before <= 5


def test_an_estimated_start_is_told_once_the_queue_is_being_drained(
    client: TestClient, runner: Runner
) -> None:
    first = client.post("/v1/jobs", json=GOOD).json()
    assert "estimated_start" not in first, "nothing was drained yet: nobody knows"
    runner.run(first["id"])
    waiting = [client.post("/v1/jobs", json=GOOD).json() for _ in range(3)]
    seen = [client.get(f"/v1/jobs/{job['id']}").json() for job in waiting]
    for jobs in (waiting, seen):
        starts = [datetime.fromisoformat(job["estimated_start"]) for job in jobs]
        assert starts == sorted(starts)
        assert starts[2] > starts[0]
    runner.run(waiting[0]["id"])
    assert "estimated_start" not in client.get(f"/v1/jobs/{waiting[0]['id']}").json()


def test_a_job_is_erased_with_all_that_belongs_to_it_but_not_before_it_has_ended(
    client: TestClient, runner: Runner, redis: Redis
) -> None:
    body = {**GOOD, "callback": {"url": "http://127.0.0.1:9/hook"}}
    headers = {"Idempotency-Key": "k"}
    job_id = client.post("/v1/jobs", json=body, headers=headers).json()["id"]
    open_still = client.delete(f"/v1/jobs/{job_id}")
    assert (open_still.status_code, open_still.json()["code"]) == (409, "not_ended")
    runner.run(job_id)
    erased = client.delete(f"/v1/jobs/{job_id}")
    assert (erased.status_code, erased.content) == (204, b"")
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events", f"/v1/jobs/{job_id}/callback"):
        assert client.get(path).status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert not [key for key in keys(redis) if job_id in key]
    assert redis.zrange("podium:callbacks", 0, -1) == redis.zrange("podium:ended", 0, -1) == []
    assert client.post("/v1/jobs", json=body, headers=headers).status_code == 410


def test_another_keys_job_is_not_there_on_any_route(settings: Settings, runner: Runner) -> None:
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a,bob:key-b")})
    with TestClient(create_app(keyed, page=False)) as client:
        ann, bob = ({"Authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
        job_id = client.post("/v1/jobs", json=GOOD, headers=ann).json()["id"]
        runner.run(job_id)
        url = f"/v1/jobs/{job_id}"
        calls = [("GET", url), ("GET", f"{url}/events"), ("GET", f"{url}/callback"), ("DELETE", url),
                 ("POST", f"{url}/cancel"), ("POST", f"{url}/retry"),
                 ("POST", f"{url}/callback/replay")]  # fmt: skip
        answers = {(method, path): client.request(method, path, headers=bob) for method, path in calls}
        assert {call: answer.status_code for call, answer in answers.items()} == dict.fromkeys(calls, 404)
        assert client.get("/v1/jobs", headers=bob).json()["jobs"] == []
        assert client.get(url, headers=ann).json()["status"] == "succeeded"
