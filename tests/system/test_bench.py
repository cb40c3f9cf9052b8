"""`podium bench` as a user runs it, with the fake engine: it measures, writes, and leaves nothing."""

import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from tests.support.podium_up import MARK, clean_environ
from tests.support.waiting import until

ROW = {
    "model",
    "docs_per_job",
    "engine_pairs_per_s",
    "engine_gain",
    "service_pairs_per_s",
    "throughput_ratio",
    "uncoalesced_pairs_per_s",
    "coalescing_gain",
    "coalescing_share",
    "vllm_serve_pairs_per_s",
    "against_vllm_serve",
    "bare_pairs_per_s",
    "against_bare",
    "bare_ratio",
    "rounds",
}


def test_throughput_of_the_fake_engine(tmp_path: Path) -> None:
    path, mark = tmp_path / "found.json", uuid.uuid4().hex
    arguments = [
        "--markdown",
        "--model=fake-gpu",
        "--docs=5",
        "--pairs=100",
        "--repeats=1",
        "--bare",
        f"--json={path}",
    ]
    assert "| fake-gpu | 5 |" in _bench("throughput", *arguments, folder=tmp_path, mark=mark)
    found = json.loads(path.read_text())
    assert found["machine"]["cores"] >= 1
    assert found["engines"]["fake-gpu"]["settings"]["kind"] == "fake"
    (row,) = found["rows"]
    assert row.keys() >= ROW
    assert row["vllm_serve_pairs_per_s"] is None
    for name in ("engine_pairs_per_s", "service_pairs_per_s", "uncoalesced_pairs_per_s", "bare_pairs_per_s"):
        assert row[name] > 0
    for name in ("engine_gain", "throughput_ratio", "coalescing_gain", "against_bare", "bare_ratio"):
        assert 0 < row[name] < 1_000
    assert row["largest_score_difference"] == 0
    assert _left(mark) == []
    assert [left.name for left in tmp_path.iterdir()] == ["found.json"]


def test_cost_of_a_job_by_part(tmp_path: Path) -> None:
    path, mark = tmp_path / "found.json", uuid.uuid4().hex
    arguments = ["--markdown", "--model=fake-gpu", "--jobs=20", "--repeats=1", f"--json={path}"]
    assert "| service |" in _bench("cost", *arguments, folder=tmp_path, mark=mark)
    (row,) = json.loads(path.read_text())["rows"]
    for part in ("api", "worker", "valkey", "client"):
        assert row[f"{part}_ms"] > 0, part
    assert row["engine_ms"] == 0  # it takes a GPU's time and no core
    assert row["all_ms"] < 1_000 / row["pairs_per_s"] * 5 * psutil.cpu_count()  # no more than there is
    assert _left(mark) == []


def test_a_bench_that_is_told_twice_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    mark, log = uuid.uuid4().hex, tmp_path / "said"
    with log.open("w") as said:
        bench = subprocess.Popen(
            [sys.executable, "-m", "cli", "bench", "throughput", "--model=fake-gpu", "--docs=5"],
            env={**clean_environ(), "TMPDIR": str(tmp_path), MARK: mark},
            stdout=said,
            stderr=said,
        )
    until("arms are measured, and others sleep", lambda: "warming" in log.read_text(), 60)
    for _ in range(2):
        bench.send_signal(signal.SIGINT)
        time.sleep(0.02)  # two signals at once would be one
    assert bench.wait(timeout=60) != 0
    assert _left(mark) == []
    assert [left.name for left in tmp_path.iterdir()] == ["said"]


def _bench(*arguments: str, folder: Path, mark: str) -> str:
    """What the command says."""
    said = subprocess.run(
        [sys.executable, "-m", "cli", "bench", *arguments],
        env={**clean_environ(), "TMPDIR": str(folder), MARK: mark},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def _left(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
