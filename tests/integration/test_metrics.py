"""What Prometheus is told."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from api.app import create_app
from api.metrics import BY_KIND, OF_WORKERS
from jobs import keys
from jobs.model import Claim
from jobs.settings import Settings
from jobs.store import Store
from tests.support.waiting import until

LEASE = timedelta(seconds=30)
DASHBOARD = Path(__file__).parents[2] / "configs" / "grafana" / "podium.json"


@pytest.fixture
def client(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False), raise_server_exceptions=False) as client:
        yield client


def figures(client: TestClient) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample's value by its name and its labels' values, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[
                tuple(sample.labels[name] for name in sorted(sample.labels))
            ] = sample.value
    return found


def test_the_metrics_tell_what_waits_and_runs_in_each_lane(client: TestClient, store: Store) -> None:
    for lane, count in (("interactive", 3), ("bulk", 2)):
        for _ in range(count):
            asked = {"query": "blue sky", "documents": ["blue sky", "red apple"], "lane": lane}
            job_id = client.post("/v1/jobs", json=asked).json()["id"]
    assert isinstance(store.claim(job_id, "w", LEASE), Claim)
    found = figures(client)
    assert found["podium_queue_jobs"] == {("bulk", "minilm"): 1, ("interactive", "minilm"): 3}
    assert found["podium_running_jobs"] == {("bulk", "minilm"): 1, ("interactive", "minilm"): 0}
    tokens = found["podium_queue_tokens"]
    assert tokens[("interactive", "minilm")] == 3 * tokens[("bulk", "minilm")] > 0


def test_the_metrics_tell_of_live_workers_engines_and_caches(client: TestClient, store: Store) -> None:
    assert figures(client).get("podium_worker_up") is None
    cache = {"hits": 7, "misses": 5, "stored": 4, "shared": 2}
    engine = {"steps": 3.0, "tokens": 99.0, "busy": 1.5, "jobs": 6, "step_tokens": 66}
    about = {"role": "score", "model": "minilm", "engine": engine, "cache": cache}
    store.heartbeat("a", {"name": "a", **about}, LEASE)
    store.heartbeat("b", {"name": "b", "role": "callbacks", "model": "minilm"}, LEASE)
    found = figures(client)
    assert found["podium_worker_up"] == {("minilm", "score", "a"): 1, ("minilm", "callbacks", "b"): 1}
    worker = ("minilm", "a")
    assert found["podium_engine_steps_total"] == {worker: 3}
    assert found["podium_engine_tokens_total"] == {worker: 99}
    assert found["podium_engine_busy_seconds_total"] == {worker: 1.5}
    assert found["podium_engine_step_jobs_total"] == {worker: 6}
    assert found["podium_engine_step_tokens_max"] == {worker: 66}
    assert found["podium_cache_hits_total"] == {worker: 7}
    assert found["podium_cache_misses_total"] == {worker: 5}
    assert found["podium_cache_stored_total"] == {worker: 4}
    assert found["podium_shared_pairs_total"] == {worker: 2}


def test_the_metrics_tell_what_became_of_jobs_callbacks_and_leases(client: TestClient, store: Store) -> None:
    about = {"role": "score", "model": "m", "jobs": {"succeeded": 5, "handed_back": 0}}
    store.heartbeat("a", {"name": "a", **about}, LEASE)
    about = {"role": "callbacks", "model": "m", "callbacks": {"delivered": 3}, "sweeper": {"lease_lost": 1}}
    store.heartbeat("b", {"name": "b", **about}, LEASE)
    found = figures(client)
    assert found["podium_jobs_total"] == {("m", "succeeded", "a"): 5, ("m", "handed_back", "a"): 0}
    assert found["podium_callback_attempts_total"] == {("m", "delivered", "b"): 3}
    assert found["podium_mended_total"] == {("m", "lease_lost", "b"): 1}


def test_each_query_of_the_dashboard_is_of_metrics_and_labels_that_there_are(
    client: TestClient, store: Store
) -> None:
    client.post("/v1/jobs", json={"query": "blue sky", "documents": ["blue sky"]})
    about: dict[str, Any] = {"name": "a", "role": "score", "model": "m", "engine": {"step_tokens": 1}}
    for part, field in [*OF_WORKERS, *((part, "any") for part in BY_KIND)]:
        about.setdefault(part, {})[field] = 1
    store.heartbeat("a", about, LEASE)
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            told.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    drawn = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(drawn) > 10
    for panel in drawn:
        for target in panel["targets"]:
            seen = _selected(target["expr"].replace("$__rate_interval", "1m").replace("$model", "m"))
            assert seen, panel["title"]
            assert seen <= told.keys(), f"{panel['title']}: no metric {seen - told.keys()}"
            named = {*re.findall(r"{{(\w+)}}", target["legendFormat"]), *_labels(target["expr"])}
            assert all(named <= told[name] for name in seen), f"{panel['title']}: no label {named}"


def _selected(query: str) -> set[str]:
    """The metrics in it. Raises for what is no PromQL."""
    names: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            names.add(str(node.name))
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return names


def _labels(query: str) -> set[str]:
    return {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}


def test_one_worker_of_another_version_hides_no_other(client: TestClient, store: Store) -> None:
    store.heartbeat("old", {"name": "old", "role": "score", "model": "m", "cache": {"hits": 1}}, LEASE)
    store.heartbeat("new", {"name": "new", "role": "score", "model": "m", "engine": {"steps": 2}}, LEASE)
    found = figures(client)
    assert found["podium_cache_hits_total"] == {("m", "old"): 1}
    assert found["podium_engine_steps_total"] == {("m", "new"): 2}


def test_a_worker_that_is_gone_is_in_no_metric_and_no_list(
    client: TestClient, store: Store, redis: Redis
) -> None:
    about = {"role": "score", "model": "m"}
    for name in ("killed", "retired", "live"):
        store.heartbeat(name, {"name": name, **about}, LEASE)
    store.heartbeat("killed", {"name": "killed", **about}, timedelta(milliseconds=300))
    store.heartbeat("live", {"name": "live", **about}, LEASE)
    store.retire("retired")
    until("the killed one's heartbeat is over", lambda: len(store.workers()) == 1, 5)
    assert figures(client)["podium_worker_up"] == {("m", "score", "live"): 1}
    assert redis.smembers(keys.WORKERS) == {"live"}
    store.heartbeat("killed", {"name": "killed", **about}, LEASE)
    assert {worker["name"] for worker in store.workers()} == {"killed", "live"}, "it is back"


def test_the_metrics_count_requests_that_wait(client: TestClient) -> None:
    job_id = client.post("/v1/jobs", json={"query": "blue sky", "documents": ["blue sky"]}).json()["id"]
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(client.get, f"/v1/jobs/{job_id}?wait=20")
        until("one waits", lambda: figures(client)["podium_waiting_requests"] == {(): 1}, 10)
        client.post(f"/v1/jobs/{job_id}/cancel")
        assert waits.result().json()["status"] == "cancelled"
    assert figures(client)["podium_waiting_requests"] == {(): 0}


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=x", "text/plain; version=1=2", "*/*"]
)
def test_whatever_is_asked_for_the_metrics_are_text(client: TestClient, accept: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
