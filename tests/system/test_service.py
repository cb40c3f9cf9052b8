"""`podium up` with the real engine: what it answers is what vLLM says, and what Flower shows are its jobs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import examples
from api.metrics import OF_WORKERS
from jobs.settings import load
from tests.support.podium_up import Service, podium_up
from tests.support.waiting import until
from worker import profiles

pytestmark = pytest.mark.engine

QUERY = "How do I keep a houseplant alive?"
DOCUMENTS = [
    "Water it when the top of the soil is dry, and give it light.",
    "Interest rates rose by a quarter of a point.",
    "",
    "Zimmerpflanzen brauchen Licht und wenig Wasser. 植物需要光。",
]
LONG = "Plants die. " * 200
"""More than the model reads."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with podium_up(tmp_path_factory.mktemp("service")) as running:
        yield running


def test_scores_equal_those_of_a_direct_LLM_score_to_1e_5(service: Service) -> None:  # noqa: N802
    texts = [QUERY, *DOCUMENTS, *(text for example in examples.load() for text in example.documents)]
    job = service.finished(service.submit(query=texts[0], documents=texts[1:]))
    assert job["status"] == "succeeded", job
    ours = {entry["index"]: entry["relevance_score"] for entry in job["results"]}
    settings = load({})
    model = profiles.load("minilm", settings.models_dir).locate(None)
    asked = {"model": model, "query": texts[0], "documents": texts[1:]}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "support" / "direct_score.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SCORES")]
    theirs = json.loads(line.removeprefix("SCORES"))
    assert [ours[index] for index in range(len(theirs))] == pytest.approx(theirs, abs=1e-5)
    assert max(theirs) - min(theirs) > 0.3, "scores that are all alike would show nothing"


def test_a_cut_document_says_so(service: Service) -> None:
    job = service.finished(service.submit(query=QUERY, documents=[*DOCUMENTS, LONG]))
    assert {entry["index"]: entry["status"] for entry in job["results"]} == {
        0: "ok",
        1: "ok",
        2: "ok",
        3: "ok",
        4: "truncated",
    }
    assert job["results"][0]["index"] == 0


def test_one_bad_document_never_fails_the_others(service: Service) -> None:
    """50 documents: one is too long, and may not be cut; one holds nothing but control characters."""
    documents = [f"Plant number {n} needs water and light." for n in range(50)]
    documents[7], documents[31] = LONG, "\x00\x01\x1b\x07"
    job = service.finished(service.submit(query=QUERY, documents=documents, overflow="error"))
    assert job["status"] == "succeeded"
    scored = [entry for entry in job["results"] if "relevance_score" in entry]
    assert len(scored) == 48
    assert {entry["status"] for entry in scored} == {"ok"}
    assert [(e["index"], e["status"], e["code"]) for e in job["results"][48:]] == [
        (7, "failed", "document_too_long"),
        (31, "failed", "no_text"),
    ]
    assert "more than the" in job["results"][48]["message"]
    one = service.finished(service.submit(query=QUERY, documents=["one"]))
    query_tokens = one["usage"]["total_tokens"] - one["results"][0]["tokens"]
    assert job["usage"]["total_tokens"] == sum(e["tokens"] for e in scored) + query_tokens


def test_a_long_document_is_read_in_windows_and_the_best_one_counts(service: Service) -> None:
    needle = "Water it when the top of the soil is dry, and give it light."
    hay = "Interest rates rose by a quarter of a point, said the central bank on Monday. " * 40
    whole = hay + needle + " " + hay
    asked = {"query": QUERY, "overflow": "chunk", "max_tokens_per_doc": 64}
    job = service.finished(service.submit(documents=[whole, hay, "short"], **asked))
    best, *_ = job["results"]
    window = whole[best["window"]["start"] : best["window"]["end"]]
    assert (best["index"], best["status"]) == (0, "chunked")
    assert needle in window
    assert best["windows"] > 20
    assert {e["index"]: e["status"] for e in job["results"]} == {0: "chunked", 1: "chunked", 2: "ok"}
    alone = service.finished(service.submit(query=QUERY, documents=[window]))
    assert best["relevance_score"] == pytest.approx(alone["results"][0]["relevance_score"], abs=1e-5)
    cut = service.finished(service.submit(query=QUERY, documents=[whole], overflow="truncate"))
    assert cut["results"][0]["relevance_score"] < best["relevance_score"]


def test_the_doctor_finds_the_golden_pairs_right_in_a_running_service(service: Service) -> None:
    command = [sys.executable, "-m", "cli", "doctor", "--url", service.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "5 golden pairs are right, within" in done.stdout


def test_the_doctor_says_that_nobody_serves_a_model(service: Service) -> None:
    command = [sys.executable, "-m", "cli", "doctor", "--model", "bge-reranker-v2-m3", "--url", service.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no live worker serves bge-reranker-v2-m3: start one with" in done.stderr


def test_flower_lists_each_job_as_one_task_whose_uuid_is_the_jobs_id(service: Service) -> None:
    word = "heliotrope"
    ids = {service.submit(query=f"{word} {n}", documents=[f"{word} one", "two"]) for n in range(3)}
    for job_id in ids:
        service.finished(job_id)
    with httpx.Client(base_url=service.flower, trust_env=False) as flower:
        rows: list[dict[str, Any]] = []

        def ours() -> list[dict[str, Any]]:
            rows[:] = _flower_rows(flower)
            return [row for row in rows if row["uuid"] in ids]

        until("Flower knows", lambda: {r["uuid"] for r in ours() if r["state"] == "SUCCESS"} == ids, 10)
        assert sorted(row["uuid"] for row in ours()) == sorted(ids)
        assert {(row["name"], row["state"]) for row in ours()} == {("podium.score", "SUCCESS")}
        assert word not in json.dumps(rows)
        for job_id in ids:
            page = flower.get(f"/task/{job_id}").text
            assert job_id in page
            assert word not in page


def _flower_rows(flower: httpx.Client) -> list[dict[str, Any]]:
    """The rows of Flower's page of tasks, as its own table asks for them."""
    columns = [
        "name",
        "uuid",
        "state",
        "args",
        "kwargs",
        "result",
        "received",
        "started",
        "runtime",
        "worker",
    ]
    form = {"draw": "1", "start": "0", "length": "1000", "search[value]": "", "order[0][column]": "0"}
    form |= {"order[0][dir]": "asc"} | {f"columns[{n}][data]": name for n, name in enumerate(columns)}
    answer = flower.post("/tasks/datatable", data=form)
    assert answer.is_success, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_fifty_jobs_from_ten_threads_share_the_engines_steps(service: Service) -> None:
    """vLLM's own counters: fewer steps than jobs, for exactly the jobs' tokens, so steps carried several."""
    before = _score_worker(service)["engine"]

    def one(number: int) -> dict[str, Any]:
        documents = [f"Document {number}-{n} is about the {word}." for n, word in enumerate(WORDS)]
        return service.finished(
            service.submit(query=f"Which one is about the {WORDS[0]}?", documents=documents, cache=False)
        )

    with ThreadPoolExecutor(10) as threads:
        jobs = list(threads.map(one, range(50)))
    assert [job["status"] for job in jobs] == ["succeeded"] * 50
    assert {job["results"][0]["index"] for job in jobs} == {0}
    sent = sum(job["usage"]["total_tokens"] for job in jobs)
    after = _score_worker(service, lambda it: it["engine"]["tokens"] >= before["tokens"] + sent)["engine"]
    steps, tokens = after["steps"] - before["steps"], after["tokens"] - before["tokens"]
    assert tokens == sent
    assert steps < 50, f"{steps} steps for 50 jobs"
    assert tokens <= steps * after["step_tokens"]
    assert after["jobs"] - before["jobs"] >= 50, "each was inside at some step"
    assert after["busy"] > before["busy"]


def test_a_second_run_of_a_job_has_the_very_same_scores_and_the_metrics_tell_of_its_hits(
    service: Service,
) -> None:
    def told() -> tuple[float, float]:
        """Pairs whose score was known, and jobs that have succeeded."""
        with service.client() as client:
            figures = text_string_to_metric_families(client.get("/metrics").text)
        counted = {family.name: family.samples for family in figures}
        assert all(len(counted[name]) == 1 for name, _ in OF_WORKERS.values())
        (succeeded,) = [one for one in counted["podium_jobs"] if one.labels["outcome"] == "succeeded"]
        return float(counted["podium_cache_hits"][0].value), float(succeeded.value)

    _score_worker(service)  # its counters, with all that ended before
    hits, jobs = told()
    asked = {"query": "Which star is the nearest?", "documents": [f"The {word} is near." for word in WORDS]}
    first, second = (service.finished(service.submit(**asked)) for _ in range(2))
    assert second["results"] == first["results"]
    assert (first["usage"]["cached"], second["usage"]["cached"]) == (0, len(WORDS))
    until("the jobs are counted", lambda: told()[1] >= jobs + 2, 15)
    _score_worker(service)
    assert told()[0] == hits + len(WORDS)


WORDS = ("lighthouse", "orchestra", "glacier", "bakery", "telescope")


def _score_worker(
    service: Service, enough: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """The score worker's first heartbeat from now on that says enough."""
    asked = time.time()
    found: dict[str, Any] = {}

    def said() -> bool:
        for worker in service.store().workers():  # none is there when its heart was late
            if worker["role"] == "score" and float(worker["at"]) > asked and enough(worker):
                found.update(worker)
        return bool(found)

    until("a heartbeat says enough", said, 15)
    return found


def test_the_page_and_the_docs_are_there(service: Service) -> None:
    with service.client() as client:
        assert "Podium" in client.get("/ui/").text
        assert client.get("/docs").is_success
        assert client.get("/").headers["location"] == "/ui"


def test_the_page_ranks_through_the_public_api(service: Service) -> None:
    """What a click on `Rank` sends and gets, by Gradio's own protocol."""
    example = examples.load()[0]
    with service.client() as client:
        config = client.get("/ui/config").json()
        (rank,) = [d for d in config["dependencies"] if len(d["inputs"]) == 4 and len(d["outputs"]) == 2]
        sent = {
            "data": [example.query, "", "\n".join(example.documents), ""],
            "fn_index": rank["id"],
            "session_hash": "test",
        }
        assert client.post("/ui/gradio_api/queue/join", json=sent).is_success
        shown: dict[str, Any] = {}
        with client.stream("GET", "/ui/gradio_api/queue/data", params={"session_hash": "test"}) as events:
            for line in events.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line else {}
                if event.get("msg") == "process_completed":
                    shown = event
                    break
    assert shown["success"], shown
    text, table = shown["output"]["data"]
    assert "minilm (cosine) on vllm" in text
    assert table["data"][0][2] == example.documents[example.best]
