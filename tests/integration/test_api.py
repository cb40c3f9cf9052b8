"""The API on a real Valkey: what it accepts, what it refuses, and that refusing stores nothing."""

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from jobs.settings import Limits, Settings
from jobs.store import Store
from tests.conftest import LEASE
from tests.support.keyspace import held, keys
from tests.support.waiting import until
from worker import profiles
from worker.engines.fake import FakeEngine
from worker.provenance import provenance
from worker.runner import Runner

GOOD: dict[str, Any] = {"query": "blue sky", "documents": ["red apple", {"text": "blue sky", "id": "b"}]}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False), raise_server_exceptions=False) as client:
        yield client


def test_an_accepted_job_is_stored_announced_and_found_at_its_location(
    client: TestClient, redis: Redis
) -> None:
    answer = client.post("/v1/jobs", json=GOOD)
    job = answer.json()
    assert answer.status_code == 202
    assert (job["status"], job["queue_position"], job["progress"]) == ("queued", 0, {"scored": 0, "total": 2})
    assert answer.headers["location"] == job["urls"]["self"]
    assert client.get(f"/v1/jobs/{job['id']}").json() == job
    assert redis.llen("score.minilm.interactive") == 1


def test_the_message_is_the_jobs_id_and_no_text_is_in_the_broker(client: TestClient, redis: Redis) -> None:
    secret_words = ("zanzibar", "quokka", "heliotrope")
    body = {
        "query": secret_words[0],
        "documents": [secret_words[1]],
        "instruction": secret_words[2],
        "metadata": {"note": secret_words[0]},
    }
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    (raw,) = redis.lrange("score.minilm.interactive", 0, -1)
    message = json.loads(raw)
    assert message["headers"]["id"] == job_id
    assert message["headers"]["task"] == "podium.score"
    assert message["properties"]["correlation_id"] == job_id
    brokers = [key for key in keys(redis) if not key.startswith("podium:")]
    assert "score.minilm.interactive" in brokers
    for key in brokers:
        assert not any(word in held(redis, key) for word in secret_words), key
    assert any(secret_words[1] in held(redis, key) for key in keys(redis)), "the store has it"
    assert not any(word in raw for word in secret_words)


def test_a_job_goes_to_the_queue_of_its_model_and_lane_and_to_no_other(
    client: TestClient, redis: Redis
) -> None:
    client.post("/v1/jobs", json={**GOOD, "lane": "bulk"})
    lengths = {
        name: redis.llen(name) for name in ("score.minilm.interactive", "score.minilm.bulk", "callbacks")
    }
    assert lengths == {"score.minilm.interactive": 0, "score.minilm.bulk": 1, "callbacks": 0}


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"query": ""}, 422, "invalid_request", "query"),
        ({"query": " \n"}, 422, "invalid_request", "query"),
        ({"query": None}, 422, "invalid_request", "query"),
        ({"query": 7}, 422, "invalid_request", "query"),
        ({"query": "\ud800"}, 422, "invalid_request", "query"),
        ({"metadata": {"x": "\ud800"}}, 422, "invalid_request", "metadata"),
        (
            {"documents": [{"text": "d", "metadata": {"\udfff": 1}}]},
            422,
            "invalid_request",
            "documents.0.metadata",
        ),
        ({"documents": []}, 422, "invalid_request", "documents"),
        ({"documents": "one text"}, 422, "invalid_request", "documents"),
        ({"documents": [1]}, 422, "invalid_request", "documents.0"),
        ({"documents": ["fine", {"txt": "x"}]}, 422, "invalid_request", "documents.1.text"),
        ({"documents": ["fine", {"text": 5}]}, 422, "invalid_request", "documents.1.text"),
        ({"documents": ["x" * 1_000_001]}, 413, "too_large", "documents.0.text"),
        ({"documents": ["x" * 10_000_000]}, 413, "too_large", None),
        ({"documents": ["x"] * 5_001}, 413, "too_large", "documents"),
        ({"top_n": 0}, 422, "invalid_request", "top_n"),
        ({"top_n": -1}, 422, "invalid_request", "top_n"),
        ({"top_n": "3"}, 422, "invalid_request", "top_n"),
        ({"top_n": 1.5}, 422, "invalid_request", "top_n"),
        ({"model": "no-such-model"}, 422, "unknown_model", "model"),
        ({"model": "qwen3-reranker-0.6b"}, 422, "unknown_model", "model"),
        ({"querry": "x"}, 422, "invalid_request", "querry"),
        ({"query": "[instruct] no query follows"}, 422, "invalid_request", "query"),
        ({"overflow": "shrink"}, 422, "invalid_request", "overflow"),
        ({"max_tokens_per_doc": 0}, 422, "invalid_request", "max_tokens_per_doc"),
        ({"clean": "yes"}, 422, "invalid_request", "clean"),
        ({"clean": ["html", "spelling"]}, 422, "invalid_request", "clean.1"),
        ({"lane": "express"}, 422, "invalid_request", "lane"),
        ({"result_ttl": 0}, 422, "invalid_request", "result_ttl"),
        ({"return_documents": "yes"}, 422, "invalid_request", "return_documents"),
        ({"metadata": {"x": "y" * 20_000}}, 413, "too_large", "metadata"),
        ({"metadata": ["x"]}, 422, "invalid_request", "metadata"),
        ({"callback": {"url": "https://10.0.0.1/hook"}}, 422, "callback_forbidden", "callback.url"),
        ({"callback": {"url": "http://example.com/"}}, 422, "callback_forbidden", "callback.url"),
        ({"callback": {"uri": "https://example.com/"}}, 422, "invalid_request", "callback.url"),
        ({"callback": "https://example.com/"}, 422, "invalid_request", "callback"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_a_problem_that_names_the_field_and_stores_nothing(
    client: TestClient, redis: Redis, change: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    content = json.dumps({**GOOD, **change})  # \ud800 included, which a client's own encoder would refuse
    answer = client.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert field is None or field in [entry["field"] for entry in problem["errors"]]
    assert problem["detail"]
    assert redis.dbsize() == 0


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"", "application/json", 422, "invalid_request"),
        (b"[]", "application/json", 422, "invalid_request"),
        (b'{"query": "\xff"}', "application/json", 400, "invalid_json"),
        (json.dumps(GOOD).encode(), "text/plain", 415, "not_json"),
        (b'{"query":"q","documents":["d"],"metadata":{"x":NaN}}', "application/json", 422, "invalid_request"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_a_problem(
    client: TestClient, redis: Redis, content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = client.post("/v1/jobs", content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert redis.dbsize() == 0


def test_a_body_of_undeclared_length_is_cut_off_at_the_limit(settings: Settings, redis: Redis) -> None:
    small = settings.model_copy(update={"limits": Limits(body_bytes=1000)})
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 500
            yield b"x" * 500

    with TestClient(create_app(small, page=False)) as client:
        answer = client.post("/v1/jobs", content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert redis.dbsize() == 0


def test_a_callback_without_a_secret_to_sign_with_is_refused(settings: Settings, redis: Redis) -> None:
    unsigned = settings.model_copy(update={"callback_secret": None})
    with TestClient(create_app(unsigned, page=False)) as client:
        answer = client.post("/v1/jobs", json={**GOOD, "callback": {"url": "https://example.com/"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "callback_forbidden")
    assert redis.dbsize() == 0


def test_unknown_paths_and_methods_are_problems_too(client: TestClient) -> None:
    assert client.get("/v1/nothing").json()["code"] == "not_found"
    assert client.put("/v1/jobs").json()["code"] == "method_not_allowed"
    missing = client.get("/v1/jobs/no-such-job")
    assert (missing.status_code, missing.json()["code"]) == (404, "job_not_found")


def test_prefer_wait_answers_as_soon_as_the_job_has_ended(
    settings: Settings, redis: Redis, runner: Runner
) -> None:
    app = create_app(settings, page=False)

    def work() -> None:
        message = redis.blpop(["score.minilm.interactive"], timeout=5)
        assert message is not None
        until("the request waits", lambda: app.state.waiting.count, 5)
        runner.run(json.loads(message[1])["headers"]["id"])

    worker = threading.Thread(target=work)
    worker.start()
    with TestClient(app) as client:
        started = time.monotonic()
        answer = client.post("/v1/jobs", json=GOOD, headers={"Prefer": "respond-async, wait=20"})
        took = time.monotonic() - started
        worker.join()
        again = client.get(f"/v1/jobs/{answer.json()['id']}?wait=20").json()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait"
    job = answer.json()
    assert job["status"] == "succeeded"
    assert [(entry["index"], entry.get("id")) for entry in job["results"]] == [(1, "b"), (0, None)]
    assert took < 4, "woken by the event, not by the look each 15 s"
    assert again == job


def test_a_wait_that_is_too_short_answers_with_the_job_as_it_is(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=GOOD, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert client.get(f"/v1/jobs/{answer.json()['id']}?wait=nonsense").json()["code"] == "invalid_request"


def test_a_failed_job_carries_its_error(client: TestClient, runner: Runner) -> None:
    job_id = client.post("/v1/jobs", json={**GOOD, "query": "word " * 9_000}).json()["id"]
    runner.run(job_id)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["error"]["code"]) == ("failed", "query_too_long")


def test_clean_is_off_by_default_and_takes_all_steps_or_a_list(client: TestClient, runner: Runner) -> None:
    documents = ["<p>blue&nbsp;sky</p>", "a\x00b", "\x00"]
    found = {}
    for asked in (None, False, True, ["control", "html"]):
        change = {} if asked is None else {"clean": asked}
        body = {**GOOD, "documents": documents, "return_documents": True, **change}
        job_id = client.post("/v1/jobs", json=body).json()["id"]
        runner.run(job_id)
        results = client.get(f"/v1/jobs/{job_id}").json()["results"]
        found[str(asked)] = {entry["index"]: entry for entry in results}
    assert found["None"] == found["False"]
    assert found["None"][0]["document"]["text"] == documents[0]
    assert "cleaned" not in found["None"][0]
    assert found["True"][1]["cleaned"] == ["control"]
    assert found["True"][0]["document"]["text"] == "blue sky"
    assert found["True"][0]["cleaned"] == ["html", "nfkc"]
    assert found["True"][1]["document"]["text"] == "ab"
    assert found["['control', 'html']"][0]["document"]["text"] == "blue\xa0sky"
    assert {entries[2]["code"] for entries in found.values()} == {"no_text"}


def test_models_lists_what_may_be_asked_for_and_who_serves_it(
    client: TestClient, store: Store, settings: Settings
) -> None:
    assert client.get("/v1/models").json() == {
        "object": "list",
        "data": [{"id": "minilm", "object": "model", "owned_by": "podium", "default": True, "workers": []}],
    }
    store.heartbeat("c", {"name": "c", "role": "callbacks", "model": "minilm"}, LEASE)
    engine = FakeEngine()
    profile = profiles.load("minilm", settings.models_dir)
    serves = provenance(profile, engine.info, None, "s", 0).model_dump(exclude={"attempt"})
    about = {"name": "s", "role": "score", "model": "minilm", "serves": {**serves, "max_tokens": 8_192}}
    store.heartbeat("s", about, LEASE)
    (model,) = client.get("/v1/models").json()["data"]
    (worker,) = model["workers"]
    assert (worker["worker"], worker["score"], worker["max_tokens"]) == ("s", "cosine", 8_192)


def test_a_key_sees_only_its_own_jobs(settings: Settings, redis: Redis) -> None:
    assert redis.dbsize() == 0
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a,bob:key-b")})
    with TestClient(create_app(keyed, page=False)) as client:
        refused = client.post("/v1/jobs", json=GOOD)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post("/v1/jobs", json=GOOD, headers={"Authorization": "Bearer nope"}).is_error
        assert redis.dbsize() == 0
        ann, bob = ({"Authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
        job_id = client.post("/v1/jobs", json=GOOD, headers=ann).json()["id"]
        assert client.get(f"/v1/jobs/{job_id}", headers=ann).status_code == 200
        assert client.get(f"/v1/jobs/{job_id}?wait=5", headers=bob).status_code == 404


def test_no_route_answers_without_a_key_but_those_of_health(settings: Settings) -> None:
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a")})
    with TestClient(create_app(keyed, page=False)) as client:
        spec = client.get("/openapi.json").json()
        calls = [
            (method, re.sub(r"{\w+}", "x", path), content, headers)
            for path, methods in spec["paths"].items()
            for method in methods
            for content in (json.dumps(GOOD), "{")
            for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic key-a"})
        ]
        opened = {
            path
            for method, path, content, headers in calls
            if client.request(method, path, content=content, headers=headers).status_code != 401
        }
    assert opened == {"/health/live", "/health/accepting", "/health/ready"}, "not even what the body is"
    assert len(calls) > 100
    assert "minilm" not in json.dumps(spec["components"]), "nor which models are served"


def test_a_list_is_narrowed_by_what_its_jobs_have_in_common(client: TestClient) -> None:
    made = [
        client.post("/v1/jobs", json={**GOOD, "lane": lane}).json()
        for lane in ("bulk", "interactive", "bulk")
    ]
    client.post(f"/v1/jobs/{made[0]['id']}/cancel")

    def listed(**only: str | int) -> list[str]:
        answer = client.get("/v1/jobs", params=only)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["jobs"]]

    first, second, third = (job["id"] for job in made)
    assert set(listed()) == {first, second, third}
    assert set(listed(lane="bulk")) == {first, third}
    assert listed(lane="bulk", status="queued") == [third]
    assert listed(status="cancelled") == [first]
    assert listed(model="minilm", lane="interactive") == [second]
    assert listed(model="another") == []
    assert set(listed(created_after=made[0]["created_at"])) == {first, second, third}
    assert listed(created_after="2100-01-01T00:00:00Z") == []
    assert listed(created_before=made[0]["created_at"]) == []
    assert len(listed(created_before="2100-01-01T00:00:00+02:00", limit=2)) == 2
    boundary = made[1]["created_at"].replace("000Z", "400Z")
    assert not set(listed(created_before=boundary)) & set(listed(created_after=boundary))
    assert len(listed(created_before=boundary)) + len(listed(created_after=boundary)) == 3
    for wrong in ({"created_after": "yesterday"}, {"created_before": "2026-11-26"}, {"created_after": "7"},
                  {"created_after": "2026-11-26T00:00:00"}, {"lane": "fast"}, {"cursor": "x"}):  # fmt: skip
        refused = client.get("/v1/jobs", params=wrong)
        assert refused.status_code == 422
        assert [entry["field"].split(".")[-1] for entry in refused.json()["errors"]] == list(wrong)


def test_metadata_that_is_nested_too_deep_is_refused(client: TestClient) -> None:
    def nested(levels: int) -> dict[str, Any]:
        return {"a": nested(levels - 1)} if levels > 1 else {"a": [1]}

    assert client.post("/v1/jobs", json={**GOOD, "metadata": nested(60)}).status_code == 202
    inside = {**GOOD, "documents": [{"text": "x", "metadata": nested(300)}]}
    for body, field in (
        ({**GOOD, "metadata": nested(64)}, "metadata"),
        ({**GOOD, "metadata": nested(300)}, "metadata"),
        (inside, "documents.0.metadata"),
    ):
        refused = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_a_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    answer = client.put("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


def test_health_tells_living_accepting_and_ready_apart(client: TestClient, store: Store) -> None:
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/accepting").status_code == 200
    assert client.get("/health/ready").status_code == 503
    store.heartbeat("c", {"name": "c", "role": "callbacks", "model": "minilm"}, LEASE)
    store.heartbeat("o", {"name": "o", "role": "score", "model": "another"}, LEASE)
    assert client.get("/health/ready").status_code == 503
    store.heartbeat("s", {"name": "s", "role": "score", "model": "minilm"}, LEASE)
    assert client.get("/health/ready").json()["workers"] == ["s"]


def test_without_redis_the_answer_is_503_with_retry_after(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere, page=False)) as client:
        answer = client.post("/v1/jobs", json=GOOD)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/accepting").status_code == 503
        assert client.get("/metrics").status_code == 503


def test_openapi_describes_requests_errors_and_has_an_example_that_is_accepted(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    schemas = spec["components"]["schemas"]
    create = spec["paths"]["/v1/jobs"]["post"]
    assert {"200", "202", "401", "413", "422", "503"} <= set(create["responses"])
    assert "Problem" in schemas
    assert {"type": "string"} in schemas["DocumentIn"]["anyOf"]
    (example,) = schemas["JobRequest"]["examples"]
    assert client.post("/v1/jobs", json=example).status_code == 202
