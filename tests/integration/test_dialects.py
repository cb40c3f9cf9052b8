"""Clients of other services are answered in their own words: each form, each habit, each error."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from jobs.model import Lane
from jobs.queue import Doorbell, queue_name
from jobs.settings import Limits, Settings
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import running
from tests.support.serving import serving
from tests.support.waiting import until
from worker.engines.fake import FakeEngine
from worker.runner import Runner

QUERY = "blue sky"
DOCUMENTS = ["red apple", "blue sky", "sky over the sea"]
GOOD: dict[str, Any] = {"query": QUERY, "documents": DOCUMENTS}
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/v1/rerank", "/v1/v2/rerank")


@pytest.fixture
def worker(redis: Redis, runner: Runner) -> Iterator[None]:
    """Does what is announced, as a worker would."""
    stop = threading.Event()
    queues = [queue_name("minilm", lane) for lane in Lane]

    def work() -> None:
        while not stop.is_set():
            message: Any = redis.brpop(queues, timeout=0.1)
            if message is not None:
                runner.run(json.loads(message[1])["headers"]["id"])

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def client(settings: Settings, worker: None) -> Iterator[TestClient]:  # noqa: ARG001
    with TestClient(create_app(settings, page=False), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_cohere_and_jina(client: TestClient, path: str) -> None:
    answer = client.post(path, json={**GOOD, "top_n": 2})
    found = answer.json()
    assert answer.status_code == 200
    assert set(found) == {"id", "model", "results", "usage", "meta"}
    assert found["results"][0]["index"] == 1
    assert all(set(entry) == {"index", "relevance_score"} for entry in found["results"])
    scores = [entry["relevance_score"] for entry in found["results"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] == pytest.approx(1.0), "a cosine of 1"
    assert found["model"] == "minilm"
    tokens = found["usage"]["total_tokens"]
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert found["meta"]["billed_units"] == {"search_units": 1}
    assert found["meta"]["tokens"] == {"input_tokens": tokens, "output_tokens": 0}
    assert tokens > 0


@pytest.mark.parametrize(("given", "kept"), [(True, True), ("true", True), ("False", False), (None, False)])
def test_documents_come_back_as_objects_or_not_at_all(client: TestClient, given: Any, kept: bool) -> None:
    found = client.post("/v2/rerank", json={**GOOD, "return_documents": given}).json()["results"]
    documents = [entry["document"] for entry in found if "document" in entry]
    expected = [{"text": DOCUMENTS[entry["index"]]} for entry in found]
    assert documents == (expected if kept else [])


@pytest.mark.parametrize(
    ("top_n", "count"), [(None, 3), (0, 3), (1, 1), ("2", 2), (3, 3), (99, 3)], ids=lambda value: repr(value)
)
def test_top_n(client: TestClient, top_n: Any, count: int) -> None:
    results = client.post("/v1/rerank", json={**GOOD, "top_n": top_n}).json()["results"]
    assert len({entry["index"] for entry in results}) == len(results) == count


def test_null_for_all_that_is_optional_and_fields_that_nobody_knows(client: TestClient) -> None:
    optional = ("model", "top_n", "top_k", "return_documents", "rank_fields", "max_tokens_per_doc", "texts",
                "priority", "instruction", "truncation", "max_chunks_per_doc", "user")  # fmt: skip
    body = {**GOOD, **dict.fromkeys(optional), "embedding_type": ["x"], "overrides": {"a": 1}}
    assert client.post("/v1/rerank", json=body).status_code == 200


@pytest.mark.parametrize(
    ("documents", "rank_fields", "read"),
    [
        ("one text", None, ["one text"]),
        ([{"text": "a text", "title": "not read"}, "plain"], None, ["a text", "plain"]),
        ([{"title": "T", "body": "B", "n": 1}], ["title", "body", "n"], ["T\nB\n1"]),
        ([{"title": "T"}], ["title", "body"], ["T"]),
        ([{"text": "T"}, {"title": "no text", "text": 1}], ["title", "body"], ["T", "no text"]),
    ],
)
def test_documents_in_all_their_forms(
    client: TestClient, documents: Any, rank_fields: Any, read: list[str]
) -> None:
    body = {"query": "q", "documents": documents, "rank_fields": rank_fields, "return_documents": True}
    results = client.post("/v1/rerank", json=body).json()["results"]
    assert [entry["document"]["text"] for entry in sorted(results, key=lambda e: e["index"])] == read


def test_names_that_clients_make_up_mean_the_default_model(client: TestClient) -> None:
    for name in ("rerank-v3.5", "jina-reranker-v1-base-en", "default/not-specified", "minilm", "", None):
        assert client.post("/v1/rerank", json={**GOOD, "model": name}).json()["model"] == "minilm"
    unknown = client.post("/v1/rerank", json={**GOOD, "model": "rerank-of-nobody"})
    assert unknown.status_code == 404
    assert "minilm" in unknown.json()["message"]


def test_tei(client: TestClient) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS, "top_n": 1, "truncate": True}
    found = client.post("/rerank", json=body).json()
    assert sorted(entry["index"] for entry in found) == [0, 1, 2]
    assert [set(entry) for entry in found] == [{"index", "score"}] * 3
    scores = [entry["score"] for entry in found]
    assert scores == sorted(scores, reverse=True)
    with_text = client.post("/rerank", json={**body, "return_text": True}).json()
    assert all(entry["text"] == DOCUMENTS[entry["index"]] for entry in with_text)
    raw = client.post("/rerank", json={**body, "raw_scores": True}).json()
    assert [(1 + entry["score"]) / 2 for entry in raw] == pytest.approx(scores)


def test_voyage(client: TestClient) -> None:
    found = client.post("/v1/rerank", json={**GOOD, "top_k": 2, "return_documents": True}).json()
    assert set(found) == {"object", "data", "model", "usage"}
    assert found["object"] == "list"
    assert found["data"][0]["document"] == "blue sky"
    assert len(found["data"]) == 2
    assert len(client.post("/v1/rerank", json={**GOOD, "truncation": True}).json()["data"]) == 3


def test_who_can_be_cohere_or_voyage_finds_both(client: TestClient) -> None:
    found = client.post("/v1/rerank", json={**GOOD, "return_documents": True}).json()
    assert found.get("object", "rerank") == "rerank"
    for ours, voyages in zip(found["results"], found["data"], strict=True):
        assert ours["document"] == {"text": voyages["document"]}
        assert ours["relevance_score"] == voyages["relevance_score"]


@pytest.mark.parametrize("first", ["text_1", "queries", "data_1"])
@pytest.mark.parametrize("second", ["text_2", "documents", "items", "data_2"])
def test_vllms_score_in_the_order_of_the_request(client: TestClient, first: str, second: str) -> None:
    one = client.post("/score", json={first: QUERY, second: DOCUMENTS}).json()
    assert [entry["index"] for entry in one["data"]] == [0, 1, 2]
    scores = [entry["score"] for entry in one["data"]]
    assert max(scores) == scores[1]
    each = client.post("/v1/score", json={first: ["red apple", QUERY, QUERY], second: DOCUMENTS}).json()
    assert [entry["score"] for entry in each["data"]] == pytest.approx([1.0, 1.0, scores[2]])
    assert each["usage"]["total_tokens"] > one["usage"]["total_tokens"]


def test_vllms_truncation_cuts_documents_only(client: TestClient) -> None:
    """Its own cuts the rendered prompt, and with it what the score is read from."""
    long = "blue sky " + "tail " * 50
    whole = client.post("/v1/rerank", json={"query": QUERY, "documents": [long]}).json()
    cut = client.post(
        "/v1/rerank", json={"query": QUERY, "documents": [long], "truncate_prompt_tokens": 2}
    ).json()
    assert cut["results"][0]["relevance_score"] == pytest.approx(1.0), "only 'blue sky' was read"
    assert whole["results"][0]["relevance_score"] < 0.99
    for all_of_it in (-1, 0, 8_000, None):
        again = client.post(
            "/v1/rerank", json={"query": QUERY, "documents": [long], "truncate_prompt_tokens": all_of_it}
        ).json()
        assert again["results"] == whole["results"]
    scored = client.post(
        "/score", json={"text_1": QUERY, "text_2": [long, "sky"], "truncate_prompt_tokens": 2}
    ).json()
    assert scored["data"][0]["score"] == pytest.approx(1.0)
    small = client.post("/score", json={"text_1": QUERY, "text_2": "sky", "truncate_prompt_tokens": 1})
    assert (small.status_code, small.json()["error"]["code"]) == (422, "query_too_long")


def test_relevant_spans_show_the_best_window_of_a_long_document(client: TestClient) -> None:
    long = "red apple. " * 20 + "Blue sky! " + "green leaf. " * 20
    body = {"query": QUERY, "documents": [long, "blue sky"], "max_tokens_per_doc": 8}
    without = client.post("/v2/rerank", json=body).json()["results"]
    assert not any("relevant_spans" in entry for entry in without)
    on = {"mode": "enabled", "threshold": None, "max_spans": None}
    found = client.post("/v2/rerank", json={**body, "relevant_spans": on}).json()["results"]
    entry = next(entry for entry in found if entry["index"] == 0)
    (span,) = entry["relevant_spans"]
    assert "Blue sky!" in long[span["start"] : span["end"]]
    assert span["end"] - span["start"] < len(long) / 4
    assert span["score"] == entry["relevance_score"]
    short = next(entry for entry in found if entry["index"] == 1)
    assert "relevant_spans" not in short, "it was read whole"
    for off in ({"mode": "disabled"}, {"mode": "enabled", "threshold": 0.999}, None):
        results = client.post("/v2/rerank", json={**body, "relevant_spans": off}).json()["results"]
        assert not any("relevant_spans" in entry for entry in results)


def test_a_document_without_a_score_is_said_and_no_score_is_made_up(client: TestClient) -> None:
    documents = ["blue sky", "\x00"]
    found = client.post("/v1/rerank", json={"query": QUERY, "documents": documents}).json()
    assert [entry["index"] for entry in found["results"]] == [0]
    assert found["meta"]["warnings"] == ["1 of 2 documents have no score: 1"]
    for path, body in (("/rerank", {"query": QUERY, "texts": documents}),
                       ("/v1/rerank", {"query": QUERY, "documents": documents, "truncation": True}),
                       ("/score", {"text_1": QUERY, "text_2": documents})):  # fmt: skip
        refused = client.post(path, json=body)
        assert refused.status_code == 422
        assert "document 1 has no score" in refused.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/rerank", {"query": QUERY}, 422),
        ("/v1/rerank", {**GOOD, "texts": ["x"]}, 422),
        ("/v1/rerank", {"documents": DOCUMENTS}, 422),
        ("/v1/rerank", {**GOOD, "query": " "}, 422),
        ("/v1/rerank", {**GOOD, "query": 7}, 422),
        ("/v1/rerank", {**GOOD, "documents": []}, 422),
        ("/v1/rerank", {**GOOD, "documents": [7]}, 422),
        ("/v1/rerank", {**GOOD, "documents": [{"title": "x"}]}, 422),
        ("/v1/rerank", {**GOOD, "documents": ["\ud800"]}, 422),
        ("/v1/rerank", {**GOOD, "top_n": -1}, 422),
        ("/v1/rerank", {**GOOD, "top_k": -1}, 422),
        ("/v1/rerank", {**GOOD, "return_documents": "perhaps"}, 422),
        ("/v1/rerank", {**GOOD, "query": "word " * 9_000}, 422),
        ("/v1/rerank", {**GOOD, "documents": ["x"] * 5_001}, 413),
        ("/v1/rerank", {**GOOD, "documents": ["x" * 9_000_000]}, 413),
        ("/v1/rerank", [], 422),
        ("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 422),
        ("/score", {"text_2": ["a"]}, 422),
        ("/score", {"text_1": "a", "queries": "b", "text_2": ["a"]}, 422),
        ("/v1/rerank", {**GOOD, "relevant_spans": {"mode": "perhaps"}}, 422),
        ("/v1/rerank", {**GOOD, "documents": [{"x": 1}], "rank_fields": ["\ud800"]}, 422),
        ("/v1/rerank", {**GOOD, "truncate_prompt_tokens": -2}, 422),
        ("/v1/rerank", {**GOOD, "top_n": True}, 422),
        ("/score", {"text_1": [str(n) for n in range(300)], "text_2": ["a"] * 300}, 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_has_one_body_that_every_client_reads(
    client: TestClient, path: str, body: Any, status: int
) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(path, content=json.dumps(body), headers=headers)
    found = answer.json()
    assert answer.status_code == status, found
    assert isinstance(found["detail"], str)
    assert found["detail"] == found["message"] == found["error"]["message"]
    assert found["error"]["type"] == "invalid_request_error"
    assert found["error"]["code"]
    assert "rate limit" not in answer.text.lower()


def test_teis_errors_are_teis(client: TestClient) -> None:
    answer = client.post("/rerank", json={"query": " ", "texts": ["x"]})
    assert answer.status_code == 422
    assert answer.json() == {"error": "must not be empty", "error_type": "Validation"}


def test_keys_are_asked_for_and_each_kind_of_error_has_its_words(
    settings: Settings, redis: Redis, store: Store
) -> None:
    keyed = settings.model_copy(update={"api_keys": SecretStr("ann:key-a"), "limits": Limits(queue_jobs=1)})
    with TestClient(create_app(keyed, page=False)) as client:
        for path, body in (("/v2/rerank", GOOD), ("/score", {"text_1": "a", "text_2": "b"})):
            refused = client.post(path, json=body, headers={"Authorization": "Bearer nope"})
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "invalid_request_error" not in refused.text
        ann = {"Authorization": "Bearer key-a"}
        assert client.post("/v1/jobs", json=GOOD, headers=ann).status_code == 202
        full = client.post("/v1/rerank", json=GOOD, headers=ann)
        assert (full.status_code, full.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 0 < int(full.headers["retry-after"]) <= 60
        assert "rate limit" in full.json()["message"]
        tei = client.post("/rerank", json={"query": "a", "texts": ["b"]}, headers=ann)
        assert (tei.status_code, tei.json()["error_type"]) == (429, "Overloaded")
    assert redis.llen(queue_name("minilm", Lane.INTERACTIVE)) == 1
    assert store.waiting("minilm", Lane.INTERACTIVE, 10)


def test_without_redis_it_is_503_with_a_short_retry_after(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(nowhere, page=False)) as client:
        answer = client.post("/v1/rerank", json=GOOD)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_a_caller_that_could_wait_no_longer_gets_an_error_and_its_job_is_cancelled(
    settings: Settings, store: Store
) -> None:
    hasty = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"max_wait": _HALF})})
    with TestClient(create_app(hasty, page=False)) as client:
        answer = client.post("/v1/rerank", json=GOOD)
    assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
    ((_, job),) = store.jobs_of("local")
    assert job.state is JobState.CANCELLED


_HALF = Settings().jobs.max_wait / 120


@contextmanager
def hanging_on(port: int, body: dict[str, Any]) -> Iterator[None]:
    """A caller who has sent `body` to be ranked waits while the block runs, and hangs up then."""
    content = json.dumps(body).encode()
    head = "POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(head.encode() + content)
        yield


def test_a_caller_that_hangs_up_takes_its_job_back(settings: Settings, store: Store) -> None:
    with serving(create_app(settings, page=False)) as port:
        with hanging_on(port, GOOD):
            until("it waits", lambda: len(store.waiting("minilm", Lane.INTERACTIVE, 10)) == 1, 5)
        until("nothing waits", lambda: not store.waiting("minilm", Lane.INTERACTIVE, 10), 5)
        ((_, job),) = store.jobs_of("local")
        assert job.state is JobState.CANCELLED


def test_what_a_caller_that_hung_up_no_longer_wants_is_not_scored(
    settings: Settings, doorbell: Doorbell, store: Store
) -> None:
    engine = FakeEngine(step_seconds=0.05, step_tokens=500)  # 10,000 tokens/s
    documents = [f"text {number} " + "word " * 98 for number in range(500)]

    def read() -> float:
        return engine.statistics()["tokens"]

    with running(engine, settings, store, doorbell, window_tokens=1_000) as runner:
        with serving(create_app(settings, page=False)) as port:
            with hanging_on(port, {"query": QUERY, "documents": documents}):
                until("it waits", lambda: len(store.waiting("minilm", Lane.INTERACTIVE, 10)) == 1, 5)
                ((_, job),) = store.jobs_of("local")
                work = threading.Thread(target=runner.run, args=(job.id,))
                work.start()
                until("it is being scored", lambda: read() > 1_000, 5)
            until("it is taken back", lambda: store.jobs_of("local").__next__()[1].state.terminal, 5)
        work.join(10)
        assert not work.is_alive()
        seen = read()
        assert 1_000 < seen < 25_000, "of 50,000 tokens; the lease is asked for three times in its length"
    ((_, job),) = store.jobs_of("local")
    assert job.state is JobState.CANCELLED


def test_models_and_info(client: TestClient) -> None:
    assert client.get("/v1/models/minilm").json()["id"] == "minilm"
    assert client.get("/v1/models/no-such").status_code == 404
    assert client.get("/info").status_code == 503
