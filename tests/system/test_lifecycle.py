"""What ends, ends whole; what was accepted is done. Real processes, real signals, the real engine."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.keyspace import until_written
from tests.support.podium_up import Service, podium_up
from tests.support.waiting import until
from worker.engines.fake import MURDER

pytestmark = pytest.mark.engine

LONG = "Lighthouses guide ships at night along the rocky coast of the northern sea. " * 12


def submit_fifty(service: Service) -> list[str]:
    """50 jobs from 10 threads; each takes the engine a while."""

    def one(number: int) -> str:
        return service.submit(query=f"ships {number}", documents=[f"{number} {n} {LONG}" for n in range(4)])

    with ThreadPoolExecutor(10) as threads:
        return list(threads.map(one, range(50)))


def test_sigterm_leaves_no_process_and_a_restart_finishes_every_accepted_job(tmp_path: Path) -> None:
    with podium_up(tmp_path, PODIUM_WORKER__DRAIN="0.5") as service:
        ids = submit_fifty(service)
        assert len(service.processes()) >= 6
        began = time.monotonic()
        assert service.stop(signal.SIGTERM) == 0
        took = time.monotonic() - began
        assert service.processes() == []
        assert took < 30, "a drain of 0.5 s, and the rest handed back"
    with podium_up(tmp_path) as service:
        with service.client() as client:
            states = [client.get(f"/v1/jobs/{job_id}").json()["status"] for job_id in ids]
        assert states.count("succeeded") < 50, "the signal came too late to show anything"
        jobs = [service.finished(job_id) for job_id in ids]
        assert [job["status"] for job in jobs] == ["succeeded"] * 50
        assert {job["attempts"] for job in jobs} == {0}, "a hand-back is not charged"


def test_kill_9_of_podium_up_itself_leaves_no_process(tmp_path: Path) -> None:
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake") as service:
        assert len(service.processes()) >= 6
        service.process.kill()
        service.process.wait()
        until("all gone", lambda: service.processes() == [], 15)


def test_an_engine_that_dies_ends_its_worker_and_the_job_that_kills_it_is_poison(tmp_path: Path) -> None:
    """The others go on: those that were in the engine with it, and those that come later."""
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake", PODIUM_ENGINE__FAKE_STEP="0.2") as service:

        def one(number: int) -> str:
            documents = ["a good one", MURDER] if number == 10 else ["a good one"]
            return service.submit(query=f"q {number}", documents=documents)

        with ThreadPoolExecutor(20) as threads:
            ids = list(threads.map(one, range(20)))
        murderer = ids.pop(10)
        job = service.finished(murderer, within=90)
        assert (job["status"], job["error"]["code"]) == ("failed", "poison")
        ids.append(service.submit(query="q", documents=["a good one"]))
        assert [service.finished(job_id, within=60)["status"] for job_id in ids] == ["succeeded"] * 20
        assert service.output.read_text().count("score ended with code 70") == 3
        assert service.process.poll() is None


def test_redis_killed_and_restarted_loses_no_accepted_job(tmp_path: Path) -> None:
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake", PODIUM_ENGINE__FAKE_STEP="0.2") as service:
        ids = submit_fifty(service)
        (valkey,) = service.named("valkey-server")
        until_written(service.redis())
        valkey.kill()
        with service.client() as client:
            answer = client.post("/v1/jobs", json={"query": "q", "documents": ["d"]})
            until(
                "accepting again",
                lambda: client.get("/health/accepting").status_code == httpx.codes.OK,
                20,
            )
        assert answer.status_code == 202 or (answer.status_code == 503 and answer.headers["Retry-After"])
        assert {service.finished(job_id, within=90)["status"] for job_id in ids} == {"succeeded"}
