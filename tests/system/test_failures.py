"""What each failure costs: one test for each row of that table, on real processes with the fake engine.

Workers, Redis and messages are here, callers and callback targets in `test_failures_outside.py`; kills of
engine, worker and `podium up` itself are in `test_lifecycle.py`.
"""

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs import keys
from jobs.model import Lane
from jobs.queue import queue_name
from jobs.states import JobState
from tests.support import api_that_dies
from tests.support.keyspace import held, until_written
from tests.support.parts import Parts, parts
from tests.support.waiting import until

ONE_BY_ONE = {"PODIUM_ENGINE__STEP_TOKENS": "1", "PODIUM_CACHE__ENABLED": "false"}
"""A step takes one document, or the query: with this model it is embedded too. Equal ones take one each."""

MIB = 1024 * 1024


def documents(count: int) -> list[str]:
    return [f"document number {n}" for n in range(count)]


@pytest.mark.parametrize("other_has", [JobState.RUNNING, JobState.SUCCEEDED])
def test_a_worker_paused_beyond_its_lease_then_resumed_leaves_another_workers_result(
    tmp_path: Path, other_has: JobState
) -> None:
    """Its late write is refused, while the other is at work and after that; then it goes on with others."""
    times = {"PODIUM_JOBS__LEASE": "5", "PODIUM_JOBS__SWEEP": "0.3", "PODIUM_ENGINE__FAKE_STEP": "2"}
    with parts(tmp_path, "api", "callbacks", "score-1", "score-2", **times, **ONE_BY_ONE) as running:
        job_id = running.submit(query="q", documents=documents(2))
        running.until_running(job_id, scored=1)
        paused, other = "score-1", "score-2"
        if not str(running.redis.hget(keys.job(job_id), "worker")).startswith(running.worker(paused)):
            paused, other = other, paused
        with running.paused(paused):  # in its last step, which is over when it is resumed
            until("another has it", lambda: running.job(job_id).generation == 2, 15)  # the lease and 10 s
            until(f"it is {other_has}", lambda: running.job(job_id).state is other_has, 15)
        until("the late write is refused", lambda: refused(running.log(paused)), 10)
        job = running.until_ended(job_id)
        assert (job.state, job.generation, job.attempts, job.ends) == (JobState.SUCCEEDED, 2, 1, 1)
        assert job.result is not None
        assert job.result.provenance.worker.startswith(running.worker(other))

        ended = record(running, job_id)
        running.end(other)
        again = running.until_ended(running.submit(query="q", documents=documents(1)))
        assert again.result is not None
        assert again.result.provenance.worker.startswith(running.worker(paused))
        assert record(running, job_id) == ended
        until("the lost lease is counted", lambda: counted(running, "podium_mended", "lease_lost") == 1, 10)
        until("so is the late write", lambda: counted(running, "podium_jobs", "not_ours") >= 1, 10)


def test_a_machine_that_stood_still_beyond_the_lease_loses_no_job_to_another_worker(tmp_path: Path) -> None:
    """Sweeper and worker were paused together: the sweeper, first to be awake, waits until it has renewed."""
    times = {"PODIUM_JOBS__LEASE": "5", "PODIUM_JOBS__SWEEP": "0.3", "PODIUM_ENGINE__FAKE_STEP": "2"}
    with parts(tmp_path, "api", "callbacks", "score-1", **times, **ONE_BY_ONE) as running:
        job_id = running.submit(query="q", documents=documents(4))
        running.until_running(job_id, scored=1)
        with running.paused("score-1"):
            with running.paused("callbacks"):
                ends = running.redis.zscore(keys.RUNNING, job_id)
                assert ends is not None
                until("its lease is over", lambda: time.time() * 1_000 > ends, 20)
            until("the sweeper has seen it", lambda: "stood still" in running.log("callbacks"), 10)
            seen = time.monotonic()
            until("it has swept some rounds", lambda: time.monotonic() > seen + 1, 5)
        job = running.until_ended(job_id, within=40)
        assert (job.state, job.generation, job.attempts) == (JobState.SUCCEEDED, 1, 0)


def test_a_worker_at_sigterm_finishes_what_fits_into_the_grace_time(tmp_path: Path) -> None:
    """The lease is renewed meanwhile: it is shorter than what is left to do."""
    times = {"PODIUM_JOBS__LEASE": "4", "PODIUM_JOBS__SWEEP": "0.3", "PODIUM_WORKER__DRAIN": "60"}
    steps = {"PODIUM_ENGINE__FAKE_STEP": "1", **ONE_BY_ONE}
    with parts(tmp_path, "api", "callbacks", "score-1", **times, **steps) as running:
        job_id = running.submit(query="q", documents=documents(8))
        running.until_running(job_id, scored=1)
        began = time.monotonic()
        assert running.end("score-1", signal.SIGTERM, within=30) == 0
        assert time.monotonic() - began > running.settings.jobs.lease.total_seconds()
        job = running.job(job_id)
        assert (job.state, job.generation, job.attempts) == (JobState.SUCCEEDED, 1, 0)


def test_a_second_sigterm_hands_back_at_once_and_charges_no_attempt(tmp_path: Path) -> None:
    steps = {"PODIUM_WORKER__DRAIN": "60", "PODIUM_ENGINE__FAKE_STEP": "0.5", **ONE_BY_ONE}
    with parts(tmp_path, "api", "score-1", **steps) as running:
        job_id = running.submit(query="q", documents=documents(200))
        scored = running.until_running(job_id, scored=1).scored
        running.part("score-1").process.send_signal(signal.SIGTERM)
        until("draining", lambda: "Warm shutdown" in running.log("score-1"), 10)
        running.until_running(job_id, scored=scored + 2)
        assert running.part("score-1").alive
        assert running.end("score-1", signal.SIGTERM, within=8) == 0
        job = running.job(job_id)
        assert (job.state, job.generation, job.attempts, job.scored) == (JobState.QUEUED, 1, 0, 0)
        assert running.doorbell.ringing("minilm", Lane.INTERACTIVE) == 1, "it is announced to the next worker"


def test_redis_killed_answers_503_with_retry_after_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    """Whatever was in hand when Redis went is stored when it is back."""
    with parts(
        tmp_path, "api", "callbacks", "score-1", PODIUM_ENGINE__FAKE_STEP="0.3", **ONE_BY_ONE
    ) as running:
        ids = [running.submit(query=f"q {n}", documents=documents(6)) for n in range(4)]
        running.until_running(ids[0], scored=1)
        until_written(running.redis)
        running.end("valkey", signal.SIGKILL)
        for answer in (
            running.call("POST", "/v1/jobs", json={"query": "q", "documents": ["d"]}),
            running.call("GET", f"/v1/jobs/{ids[0]}"),
            running.call("GET", "/health/accepting"),
        ):
            assert_unavailable(answer)
        running.stack.revive(at_most=1, within=60)
        until("accepting", lambda: running.call("GET", "/health/accepting").is_success, 20)
        for job_id in ids:
            assert running.until_ended(job_id, within=30).state is JobState.SUCCEEDED


def test_redis_full_refuses_new_jobs_and_its_reserve_stores_the_results_of_the_accepted(
    tmp_path: Path,
) -> None:
    """Used memory is above `limits.memory_share`, below `maxmemory`: queued and running jobs end as ever."""
    with parts(
        tmp_path, "api", "callbacks", "score-1", PODIUM_ENGINE__FAKE_STEP="0.3", **ONE_BY_ONE
    ) as running:
        ids = [running.submit(query=f"q {n}", documents=documents(6)) for n in range(4)]
        running.until_running(ids[0], scored=1)
        running.redis.setrange("ballast", 40 * MIB, "x")
        running.redis.config_set("maxmemory", round(used(running) / 0.95))
        assert_unavailable(running.call("POST", "/v1/jobs", json={"query": "q", "documents": ["d"]}))
        assert not all(running.job(job_id).state.terminal for job_id in ids), "too late to show anything"
        for job_id in ids:
            assert running.until_ended(job_id).state is JobState.SUCCEEDED
        assert_unavailable(running.call("POST", "/v1/jobs", json={"query": "q", "documents": ["d"]}))
        running.redis.config_set("maxmemory", 0)
        later = running.submit(query="q", documents=["d"])
        assert running.until_ended(later).state is JobState.SUCCEEDED


def test_redis_full_to_the_brim_stores_the_results_in_hand_and_loses_no_job_that_waits(
    tmp_path: Path,
) -> None:
    """Used memory is above `maxmemory`: nothing is accepted and no worker can start. What was accepted before
    is ended all the same, and the worker that waits takes part as soon as there is room.
    """
    steps = {"PODIUM_ENGINE__FAKE_STEP": "0.3", "PODIUM_WORKER__THREADS": "2", "PODIUM_JOBS__SWEEP": "0.5"}
    with parts(tmp_path, "api", "callbacks", "score-1", **steps, **ONE_BY_ONE) as running:
        ids = [running.submit(query=f"q {n}", documents=documents(6)) for n in range(5)]
        for job_id in ids[:2]:
            running.until_running(job_id, scored=1)
        running.redis.config_set("maxmemory", used(running) // 2)
        for job_id in ids:
            assert running.until_ended(job_id, within=40).state is JobState.SUCCEEDED
        assert_unavailable(running.call("POST", "/v1/jobs", json={"query": "q", "documents": ["d"]}))
        running.start_blindly("score-2")
        until("the new worker tries again", lambda: "Trying to re" in running.log("score-2"), 10)
        running.redis.config_set("maxmemory", 0)
        running.stack.check()
        until("it takes jobs", lambda: "takes jobs from" in running.log("score-2"), 40)
        later = running.submit(query="q", documents=["d"])
        for job_id in [*ids, later]:
            job = running.until_ended(job_id, within=40)
            assert (job.state, job.ends, job.attempts) == (JobState.SUCCEEDED, 1, 0)


def test_an_api_killed_once_a_job_is_stored_has_announced_it_and_a_lost_message_is_sent_again(
    tmp_path: Path,
) -> None:
    """Done within 15 s, though its message is lost as well. The same key again is answered with that job."""
    with parts(tmp_path, "api", "callbacks") as running:
        healthy = running.url
        running.start_other_api("dying", Path(api_that_dies.__file__))
        request: dict[str, Any] = {
            "json": {"query": "q", "documents": ["d"]},
            "headers": {"Idempotency-Key": "once"},
        }
        try:
            running.call("POST", "/v1/jobs", **request)
        except httpx.TransportError:
            killed = time.monotonic()
        else:
            raise AssertionError("it did not die")
        assert running.part("dying").process.wait(5) == -signal.SIGKILL
        ((_, job),) = running.store.jobs_of("local")
        assert job.state is JobState.QUEUED
        assert job.announced_at is not None
        assert running.doorbell.ringing("minilm", Lane.INTERACTIVE) == 1
        assert running.redis.delete(queue_name("minilm", Lane.INTERACTIVE)) == 1
        running.start_blindly("score-1")

        running.url = healthy
        again = running.call("POST", "/v1/jobs", **request)
        assert (again.status_code, again.json()["id"]) == (httpx.codes.ACCEPTED, job.id)
        assert again.headers["Idempotency-Replayed"] == "true"
        ended = running.until_ended(job.id, within=15 - (time.monotonic() - killed))
        assert (ended.state, ended.ends) == (JobState.SUCCEEDED, 1)
        assert len(list(running.store.jobs_of("local"))) == 1


def test_duplicate_delivery_of_a_message_is_refused_and_stores_no_duplicate(tmp_path: Path) -> None:
    """While the job waits, while it runs, and after it has ended; in both lanes."""
    with parts(tmp_path, "api", PODIUM_ENGINE__FAKE_STEP="0.5", **ONE_BY_ONE) as running:
        job_id = running.submit(query="q", documents=documents(12))

        def ring_again() -> int:
            for _ in range(20):
                for lane in Lane:
                    running.doorbell.announce(job_id, "minilm", lane)
            return 20 * len(Lane)

        def refused() -> int:
            return running.log("score-1").count(f"{job_id} not claimed: REFUSED")

        sent = ring_again()
        running.start("score-1")
        running.until_running(job_id, scored=1)
        sent += ring_again()
        until("refused while it runs", lambda: refused() == sent, 10)
        assert running.job(job_id).state is JobState.RUNNING, "too late to show anything"
        running.until_ended(job_id)
        ended = record(running, job_id)
        sent += ring_again()
        until("refused after its end", lambda: refused() == sent, 10)
        job = running.job(job_id)
        assert (job.state, job.ends, job.generation, job.attempts) == (JobState.SUCCEEDED, 1, 1, 0)
        assert record(running, job_id) == ended


def refused(said: str) -> bool:
    return "stale write refused" in said or "is gone: SUPERSEDED" in said


def counted(running: Parts, family: str, kind: str) -> float:
    """What `/metrics` tells of one kind, of all live workers."""
    families = text_string_to_metric_families(running.call("GET", "/metrics").text)
    samples = next(one.samples for one in families if one.name == family)
    return sum(sample.value for sample in samples if kind in sample.labels.values())


def record(running: Parts, job_id: str) -> tuple[str, str]:
    """All that Redis holds of a job."""
    return held(running.redis, keys.job(job_id)), held(running.redis, keys.result(job_id))


def used(running: Parts) -> int:
    about: dict[str, int] = running.redis.info("memory")
    return about["used_memory"]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
    assert answer.json()["code"] == "store_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
