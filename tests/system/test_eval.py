"""`podium eval` as a user runs it, against a service with the fake engine or one that it starts itself."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from jobs.model import Lane
from tests.support import beir
from tests.support.parts import Parts, parts
from tests.support.podium_up import MARK, clean_environ
from tests.support.waiting import until

NOWHERE = "http://127.0.0.1:1"
"""Nothing listens on port 1."""

SLOW = {"PODIUM_ENGINE__FAKE_TOKEN": "0.004", "PODIUM_ENGINE__STEP_TOKENS": "100"}
"""About 20 jobs of these collections in a second, a few in each step."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with parts(tmp_path_factory.mktemp("service"), "api", "score-1") as running:
        yield running


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", "eval", *arguments]


def podium_eval(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        env={**clean_environ(), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def started(output: Path, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """An evaluation that the block ends, in its own way."""
    with output.open("wb") as log:
        process = subprocess.Popen(
            command(*arguments),
            env={**clean_environ(), **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            # Where tests run in the background it is ignored, and would be so here.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def jobs(running: Parts) -> int:
    return sum(1 for _ in running.store.jobs_of("local"))


def all_ended(running: Parts) -> bool:
    return all(job.state.terminal for _, job in running.store.jobs_of("local"))


def kept(progress: Path) -> int:
    """Whole lines after the first."""
    return max(0, progress.read_bytes().count(b"\n") - 1) if progress.exists() else 0


def test_a_run_is_reranked_over_http_to_the_measures_that_were_foretold(
    service: Parts, tmp_path: Path
) -> None:
    made = beir.make(tmp_path, 8)
    report, saved, before = tmp_path / "report.json", tmp_path / "saved.run", jobs(service)
    written = [f"--json={report}", f"--save-run={saved}", f"--url={service.url}"]
    said = podium_eval(*made.arguments(), *written)
    assert said.returncode == 0, said.stderr
    found = beir.report(report)
    assert found["before"] == pytest.approx(beir.BEFORE, abs=1e-4)
    assert found["after"] == pytest.approx(beir.AFTER, abs=1e-4)
    assert {name: found[name] for name in ("model", "split", "top", "queries", "documents", "failed")} == {
        "model": "minilm",
        "split": "test",
        "top": 50,
        "queries": 8,
        "documents": 40,
        "failed": 0,
    }
    assert found["truncated"] == 0
    assert (found["corpus"], found["run"]) == (str(made.corpus), str(made.run))
    assert found["provenance"]["engine"] == "fake"
    assert not {"worker", "attempt"} & set(found["provenance"])
    assert found["warnings"] == []
    assert found["seconds"] > 0
    assert found["pairs_per_s"] > 0
    for shown in ("nDCG@10", "0.472", "0.847", "+0.375", "8 queries, 40 documents (0 truncated"):
        assert shown in said.stdout
    assert beir.ranking(saved) == {
        query: [f"{query}-{place}" for place in beir.RANKING] for query in made.queries
    }
    assert saved.read_text().splitlines()[0].endswith(" podium-minilm")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "collection", "first.run", "report.json", "saved.run",
    ]  # fmt: skip
    assert jobs(service) == before + 8
    assert next(service.store.jobs_of("local"))[1].lane is Lane.BULK

    again = tmp_path / "again.run"
    assert podium_eval(*made.arguments(), f"--save-run={again}", f"--url={service.url}").returncode == 0
    assert again.read_text() == saved.read_text()
    assert jobs(service) == before + 16, "a second evaluation really scores again"


def test_top_and_queries_say_how_much_is_asked(service: Parts, tmp_path: Path) -> None:
    made, report = beir.make(tmp_path, 4), tmp_path / "report.json"
    asked = ["--top=2", "--queries=3", "--instruction=find", f"--json={report}", f"--url={service.url}"]
    assert podium_eval(*made.arguments(), *asked).returncode == 0
    found = beir.report(report)
    assert (found["queries"], found["documents"]) == (3, 6)
    assert list(found["after"]) == ["nDCG@10", "RR@10", "P@1", "R@10", "R@2"]
    assert found["after"]["R@10"] == 0, "what the run has below --top is not looked at"
    assert found["warnings"] == ["minilm takes no instruction: it was ignored"]


def test_killed_midway_it_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    made, report = beir.make(tmp_path, 60), tmp_path / "report.json"
    progress = tmp_path / "report.json.progress.jsonl"
    whole, resumed = tmp_path / "whole.run", tmp_path / "resumed.run"
    with parts(tmp_path, "api", "score-1", **SLOW) as running:
        at = [*made.arguments(), f"--json={report}", f"--url={running.url}"]
        with started(tmp_path / "log", *at, f"--save-run={resumed}") as process:
            until("some queries done", lambda: kept(progress) >= 5 or process.poll() is not None, 60)
            process.send_signal(signal.SIGKILL)
            assert process.wait(20) == -signal.SIGKILL, (tmp_path / "log").read_text()
        done = kept(progress)
        assert 5 <= done < 60
        assert not resumed.exists()
        with progress.open("ab") as file:
            file.write(b'{"seconds": 1.5, "answ')

        until("what it had asked for has ended", lambda: all_ended(running), 20)
        before = jobs(running)
        said = podium_eval(*at, f"--save-run={resumed}")
        assert said.returncode == 0, said.stderr
        assert f"{done} of 60 queries are done already" in said.stdout
        assert jobs(running) - before == 60 - done, "what is done is not asked again"
        assert beir.report(report)["queries"] == 60
        assert not progress.exists()

        before = jobs(running)
        assert podium_eval(*at, f"--save-run={whole}").returncode == 0
        assert jobs(running) - before == 60
    assert resumed.read_text() == whole.read_text()
    assert beir.report(report)["after"] == pytest.approx(beir.AFTER, abs=1e-4)


def test_with_another_run_it_starts_anew_and_says_so(service: Parts, tmp_path: Path) -> None:
    made, report = beir.make(tmp_path, 4, {"q1": "word " * 9_000}), tmp_path / "report.json"
    at = [*made.arguments(), f"--json={report}", f"--url={service.url}"]
    assert podium_eval(*at).returncode == 1
    made.run.write_text(made.run.read_text() + "q0 Q0 q1-0 6 0.1 t\n")
    before = jobs(service)
    said = podium_eval(*at)
    assert "is of another run." in said.stdout
    assert jobs(service) - before == 4


def test_a_query_that_fails_is_named_and_the_others_are_kept(service: Parts, tmp_path: Path) -> None:
    made, report = beir.make(tmp_path, 4, {"q1": "word " * 9_000}), tmp_path / "report.json"
    at = [*made.arguments(), f"--json={report}", f"--url={service.url}"]
    said = podium_eval(*at)
    assert said.returncode == 1
    assert "1 of 4 queries have no scores:\n  q1: query_too_long: " in said.stderr
    assert not report.exists()
    before = jobs(service)
    said = podium_eval(*at)
    assert said.returncode == 1
    assert "3 of 4 queries are done already" in said.stdout
    assert jobs(service) - before == 1, "it alone is asked again"


def test_a_full_queue_is_waited_for_as_long_as_the_api_says(tmp_path: Path) -> None:
    made = beir.make(tmp_path, 8)
    few = {
        "PODIUM_LIMITS__QUEUE_JOBS": "2",
        "PODIUM_WORKER__THREADS": "2",
        "PODIUM_WORKER__BULK_THREADS": "1",
    }
    with parts(tmp_path, "api", "score-1", **few, **SLOW) as running:
        running.until_ended(running.submit(query="q", documents=["a rate is known"], lane="bulk"))
        said = podium_eval(*made.arguments(), f"--url={running.url}")
        assert said.returncode == 0, said.stderr
        assert jobs(running) == 1 + 8
    assert "the API answered 429" in said.stdout
    assert "8 queries, 40 documents" in said.stdout


def test_what_it_can_not_use_it_refuses_with_a_sentence(service: Parts, tmp_path: Path) -> None:
    made = beir.make(tmp_path, 4)
    arguments = made.arguments()
    url = f"--url={service.url}"
    before = jobs(service)
    for wrong, code, sentence in (
        ([*arguments, "--split=dev", url], 1, "dev.tsv can't be read: No such file or directory"),
        ([*arguments, f"--json={tmp_path}/gone/report.json", url], 2, "name a file in a folder that exists"),
        ([*arguments, "--model=nonsense", url], 1, "'nonsense' is not served here; there are: minilm"),
        ([*arguments, f"--url={NOWHERE}"], 1, f"no API answers at {NOWHERE}"),
        ([*arguments, "--url=nonsense"], 1, "no API answers at nonsense"),
    ):
        said = podium_eval(*wrong)
        assert said.returncode == code, said.stderr
        assert sentence in said.stderr
        assert "Traceback" not in said.stderr
    assert jobs(service) == before


def test_the_first_key_is_sent(tmp_path: Path) -> None:
    made = beir.make(tmp_path, 4)
    with parts(tmp_path, "api", "score-1", PODIUM_API_KEYS="me:hush-hush") as running:
        url = f"--url={running.url}"
        assert podium_eval(*made.arguments(), url, PODIUM_API_KEYS="me:hush-hush").returncode == 0
        said = podium_eval(*made.arguments(), url)
        assert said.returncode == 1
        assert "the API answered 401" in said.stderr


def test_where_no_api_answers_it_starts_its_own_and_ctrl_c_ends_both(tmp_path: Path) -> None:
    made, report, log = beir.make(tmp_path, 60), tmp_path / "report.json", tmp_path / "log"
    progress, mark = tmp_path / "report.json.progress.jsonl", uuid.uuid4().hex
    environ = {"PODIUM_PUBLIC_URL": NOWHERE, "PODIUM_ENGINE__KIND": "fake", MARK: mark}
    arguments = [*made.arguments(), f"--json={report}"]
    with started(log, *arguments, **environ, **SLOW) as process:
        until("some queries done", lambda: kept(progress) >= 5 or process.poll() is not None, 90)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1, log.read_text()
    assert f"No API answers at {NOWHERE}: starting one" in log.read_text()
    assert "interrupted; what was scored is kept" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert _marked(mark) == []

    said = podium_eval(*arguments, **environ)
    assert said.returncode == 0, said.stderr
    assert "of 60 queries are done already" in said.stdout
    assert beir.report(report)["after"] == pytest.approx(beir.AFTER, abs=1e-4)
    assert _marked(mark) == []


def test_ctrl_c_keeps_what_was_scored_elsewhere(tmp_path: Path) -> None:
    made, log = beir.make(tmp_path, 240), tmp_path / "log"
    progress = tmp_path / "report.json.progress.jsonl"
    with parts(tmp_path, "api", "score-1", **SLOW) as running:
        at = [*made.arguments(), f"--json={tmp_path}/report.json", f"--url={running.url}"]
        with started(log, *at) as process:
            until("some queries done", lambda: kept(progress) >= 5 or process.poll() is not None, 60)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1, log.read_text()
    assert "interrupted; what was scored is kept" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert kept(progress) >= 5


def test_help_names_each_option() -> None:
    said = podium_eval("--help", COLUMNS="200", TERM="dumb")
    assert said.returncode == 0
    for option in ("--corpus", "--run", "--model", "--json", "--save-run", "--split", "--top", "--queries"):
        assert option in said.stdout


def _marked(mark: str) -> list[str]:
    """Live processes that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
