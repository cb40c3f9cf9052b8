"""What each failure costs, seen from outside: callback targets, missing workers, bad input, an operator."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from jobs.states import CallbackState, JobState
from tests.support.keyspace import keys
from tests.support.parts import Parts, parts
from tests.support.ports import free_port
from tests.support.targets import babbles, drips, hangs, says, target
from tests.support.waiting import until
from worker.engines.fake import MURDER


def callback(running: Parts, job_id: str) -> dict[str, Any]:
    answer = running.call("GET", f"/v1/jobs/{job_id}/callback")
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until_attempts(running: Parts, job_id: str, count: int, within: float = 20) -> list[dict[str, Any]]:
    until(f"{count} attempts", lambda: len(callback(running, job_id).get("attempts", [])) >= count, within)
    attempts: list[dict[str, Any]] = callback(running, job_id)["attempts"]
    return attempts


def submit(running: Parts, url: str) -> str:
    """A job that calls back there; it has ended."""
    job_id = running.submit(query="q", documents=["d"], callback={"url": url})
    assert running.until_ended(job_id).state is JobState.SUCCEEDED
    return job_id


def test_a_callback_target_down_slow_or_lying_never_delays_scoring(tmp_path: Path) -> None:
    """Each attempt comes to its end and is recorded, although there are more such targets than threads."""
    few = {"PODIUM_CALLBACKS__THREADS": "2", "PODIUM_CALLBACKS__TIMEOUT": "5"}
    refuses = f"http://127.0.0.1:{free_port()}/hook"
    with (
        target(hangs) as hanging,
        target(drips) as dripping,
        target(babbles) as lying,
        parts(tmp_path, "api", "callbacks", "score-1", **few) as running,
    ):
        hold = running.settings.callbacks.hold.total_seconds()
        hung, dripped = submit(running, hanging.url), submit(running, dripping.url)
        until("both threads are held", lambda: (hanging.held, dripping.held) == (1, 1), 10)
        refused, lied = submit(running, refuses), submit(running, lying.url)
        others = [running.submit(query=f"q {n}", documents=["d"]) for n in range(20)]
        for job_id in others:
            assert running.until_ended(job_id).state is JobState.SUCCEEDED
        assert dripping.held == 1, "too late to show anything"

        for job_id, why in (
            (hung, "ReadTimeout"),
            (dripped, "ReadTimeout"),
            (refused, "ConnectError"),
            (lied, "RemoteProtocolError"),
        ):
            first = until_attempts(running, job_id, 1, within=2 * hold)[0]
            assert "status" not in first
            assert first["answer"].startswith(why)
            assert first["seconds"] < hold
            assert callback(running, job_id)["status"] == CallbackState.PENDING, "it is tried again"
            assert running.job(job_id).state is JobState.SUCCEEDED
        early = running.call("POST", f"/v1/jobs/{lied}/callback/replay")
        assert (early.status_code, early.json()["code"]) == (httpx.codes.CONFLICT, "callback_pending")


def test_a_callback_reaches_a_target_that_has_come_back_by_schedule_or_by_replay(tmp_path: Path) -> None:
    """All attempts of one callback carry the same `webhook-id`."""
    with (
        target(says(500), says(204)) as failing,
        target(says(410), says(204)) as gone,
        parts(tmp_path, "api", "callbacks", "score-1") as running,
    ):
        port = free_port()
        failed = submit(running, failing.url)
        down = submit(running, f"http://127.0.0.1:{port}/hook")
        stopped = submit(running, gone.url)
        until_attempts(running, down, 1)
        with target(says(204), port=port) as back:
            until("given up", lambda: callback(running, stopped)["status"] == CallbackState.EXHAUSTED, 10)
            replayed = running.call("POST", f"/v1/jobs/{stopped}/callback/replay")
            assert replayed.status_code == httpx.codes.ACCEPTED  # pending, or delivered by now
            for job_id, statuses in ((stopped, [410, 204]), (failed, [500, 204]), (down, [None, 204])):
                attempts = until_attempts(running, job_id, 2)
                assert [attempt.get("status") for attempt in attempts] == statuses
                assert callback(running, job_id)["status"] == CallbackState.DELIVERED
            assert failing.ids() == [f"msg_{failed}"] * 2
            assert gone.ids() == [f"msg_{stopped}"] * 2
            assert back.ids() == [f"msg_{down}"]


def test_all_workers_down_jobs_wait_deadlines_end_them_and_callbacks_go_out(tmp_path: Path) -> None:
    with target(says(204)) as hook, parts(tmp_path, "api", "callbacks") as running:
        waiting = [running.submit(query=f"q {n}", documents=["d"]) for n in range(5)]
        late = running.submit(query="q", documents=["d"], start_within=1, callback={"url": hook.url})
        assert running.until_ended(late).state is JobState.EXPIRED
        until("called back", lambda: len(hook.received) == 1, 10)
        assert hook.received[0].headers["webhook-id"] == f"msg_{late}"
        assert b'"job.expired"' in hook.received[0].body
        seen = [running.call("GET", f"/v1/jobs/{job_id}").json() for job_id in waiting]
        assert [(job["status"], job["queue_position"]) for job in seen] == [("queued", n) for n in range(5)]
        running.start("score-1")
        for job_id in waiting:
            assert running.until_ended(job_id).state is JobState.SUCCEEDED
        assert running.job(late).ends == 1


GOOD: dict[str, Any] = {"query": "q", "documents": ["d"]}


def test_bad_input_is_a_problem_with_the_fields_path_and_nothing_is_stored(tmp_path: Path) -> None:
    with parts(tmp_path, "api") as running:
        assert keys(running.redis) == []
        for change, field in (
            ({"query": 7}, "query"),
            ({"documents": []}, "documents"),
            ({"documents": ["d", {"text": None}]}, "documents.1.text"),
            ({"top_n": 0}, "top_n"),
            ({"start_within": "soon"}, "start_within"),
            ({"model": "nonsense"}, "model"),
            ({"callback": {"url": "http://10.0.0.1/hook"}}, "callback.url"),
            ({"no_such_field": 1}, "no_such_field"),
        ):
            answer = running.call("POST", "/v1/jobs", json=GOOD | change)
            assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert [error["field"] for error in answer.json()["errors"]] == [field]
        no_json = running.call("POST", "/v1/jobs", content=b"{", headers={"content-type": "application/json"})
        assert (no_json.status_code, no_json.json()["code"]) == (httpx.codes.BAD_REQUEST, "invalid_json")
        assert keys(running.redis) == []


def test_an_operator_finds_a_poison_job_and_runs_it_again(tmp_path: Path) -> None:
    """`podium jobs --status failed`, `podium retry`; what has not failed is refused with a sentence."""
    with parts(tmp_path, "api", "callbacks", "score-1", PODIUM_JOBS__MAX_DEATHS="1") as running:

        def podium(*arguments: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [sys.executable, "-m", "cli", *arguments, f"--url={running.url}"],
                env=running.environ,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

        good = running.submit(**GOOD)
        assert running.until_ended(good).state is JobState.SUCCEEDED
        poison = running.submit(query="q", documents=[MURDER])
        assert running.until_ended(poison).state is JobState.FAILED
        listed = podium("jobs", "--status", "failed")
        assert listed.returncode == 0
        assert poison in listed.stdout
        assert "poison" in listed.stdout
        assert good not in listed.stdout

        first, second = podium("retry", poison), podium("retry", poison)
        assert (first.returncode, first.stderr) == (0, "")
        assert first.stdout == second.stdout
        again = first.stdout.split()[-1]
        assert again != poison
        until("its worker has ended", lambda: not running.part("score-1").alive, 10)
        running.stack.revive(at_most=1, within=60)
        ended = running.until_ended(again)
        assert ended.error is not None
        assert (ended.error.code, running.job(poison).ends) == ("poison", 1)

        refused = podium("retry", good)
        assert refused.returncode == 1
        assert "409" in refused.stderr
        assert "succeeded" in refused.stderr
        assert "Traceback" not in refused.stderr
