"""The real engine in a process of its own: when that ends, its worker ends; when the worker ends, it ends."""

from collections.abc import Iterator

import psutil
import pytest

from cli.bench import machine
from tests.support.podium_up import Service, podium_up
from tests.support.waiting import until

pytestmark = pytest.mark.engine

LONG = "Lighthouses guide ships at night along the rocky coast of the northern sea. " * 12


ENDED = "score ended with code 70"


def cores(worker: psutil.Process) -> list[psutil.Process]:
    """The engine's processes below a worker."""
    return [child for child in worker.children() if "EngineCore" in child.name() or "VLLM" in _line(child)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def newest_score_worker(service: Service, not_: set[int]) -> psutil.Process | None:
    """A score worker that is being started: it has no heartbeat yet. What one that dies leaves for a moment
    has its command line too, but is not a child of `podium up`.
    """
    children = psutil.Process(service.process.pid).children()
    return next((p for p in children if "worker score" in _line(p) and p.pid not in not_), None)


def long_job(service: Service) -> str:
    """A job of some seconds, of which the engine has scored a part."""
    documents = [f"{n} {LONG}" for n in range(5_000 if machine.gpus() else 150)]
    job_id = service.submit(query="ships", documents=documents, cache=False)
    with service.client() as client:

        def scored() -> int:
            return int(client.get(f"/v1/jobs/{job_id}").json()["progress"]["scored"])

        until("the engine has it", lambda: scored() > 0, 30)
    return job_id


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with podium_up(
        tmp_path_factory.mktemp("engine-process"),
        "--no-page",
        "--no-flower",
        PODIUM_ENGINE__SEPARATE_PROCESS="true",
        PODIUM_JOBS__LEASE="6",
    ) as running:
        yield running


def serving(service: Service) -> psutil.Process:
    """The score worker that takes jobs; it is waited for, since a test before may have left none."""

    def alive() -> bool:
        try:
            return service.score_worker().is_running()
        except (ValueError, psutil.NoSuchProcess):  # none has a heart that beats, or a dead one's still does
            return False

    until("a worker serves", alive, 120)
    return service.score_worker()


def test_kill_9_of_the_score_worker_leaves_no_engine_process_and_the_job_is_done(service: Service) -> None:
    worker = serving(service)
    engines = cores(worker)
    assert len(engines) == 1
    said = service.output.read_text()
    job_id = long_job(service)
    worker.kill()
    _, alive = psutil.wait_procs(engines, timeout=5)
    assert alive == [], "engine processes that outlive their worker hold the accelerator"
    job = service.finished(job_id, within=150)
    assert (job["status"], job["attempts"]) == ("succeeded", 1)
    assert not job["provenance"]["worker"].startswith(f"score-{worker.pid}@")
    new = service.output.read_text().removeprefix(said)
    assert "score was killed by SIGKILL" in new
    assert "started again" in new


def test_the_engines_process_and_its_worker_live_and_die_together(service: Service) -> None:
    # Killed while it works: the worker must not go on renewing leases for an engine that is gone.
    worker = serving(service)
    before = service.output.read_text().count(ENDED)
    job_id = long_job(service)
    (core,) = cores(worker)
    core.kill()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()
    job = service.finished(job_id, within=150)
    assert (job["status"], job["attempts"]) == ("succeeded", 1), "its engine died with it inside"
    said = service.output
    assert said.read_text().count(ENDED) == before + 1

    # Killed while it is idle: no job has to be lost on it first.
    second = serving(service)
    (core,) = cores(second)
    core.kill()
    until("the worker ends", lambda: said.read_text().count(ENDED) == before + 2, 30)

    # The worker is killed while its engine starts, before that has tied its life to the worker's.
    old = {worker.pid, second.pid}
    until("a third worker", lambda: newest_score_worker(service, old), 30)
    third = newest_score_worker(service, old)
    assert third is not None
    until("its engine starts", lambda: cores(third), 60)
    starting = third.children(recursive=True)
    third.kill()
    _, alive = psutil.wait_procs(starting, timeout=5)
    assert alive == [], "engine processes that outlive their worker hold the accelerator"
