"""Runs `podium up` as a user does, and sees which processes belong to it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from redis import Redis

from jobs.connection import connect
from jobs.store import Store
from tests.support.ports import free_port
from tests.support.waiting import until

MARK = "MARK_OF_A_TEST"
"""An environment variable that every process of a service inherits: one that lost its parent is still found.

Servers that rename themselves overwrite it, so descendants that were seen once are remembered too.
"""

READY_WITHIN = 180.0


@dataclass
class Service:
    process: "subprocess.Popen[bytes]"
    url: str
    flower: str
    data_dir: Path
    mark: str
    output: Path
    said_before: int = 0
    seen: set[psutil.Process] = field(default_factory=set)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def redis(self) -> Redis:
        port = next(
            line.split()[1]
            for line in (self.data_dir / "valkey.conf").read_text().splitlines()
            if line.startswith("port")
        )
        return connect(f"redis://127.0.0.1:{port}/0")

    def store(self) -> Store:
        return Store(self.redis())

    def processes(self) -> list[psutil.Process]:
        """All live processes of the service, zombies not counted."""
        with suppress(psutil.NoSuchProcess):
            up = psutil.Process(self.process.pid)
            self.seen.update([up, *up.children(recursive=True)])
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    self.seen.add(process)
        return [process for process in self.seen if _alive(process)]

    def score_worker(self) -> psutil.Process:
        """By the name in its heartbeat: Celery renames its processes."""
        (name,) = [worker["name"] for worker in self.store().workers() if worker["role"] == "score"]
        return psutil.Process(int(name.removeprefix("score-").partition("@")[0]))

    def named(self, *words: str) -> list[psutil.Process]:
        return [p for p in self.processes() if all(word in " ".join(p.cmdline()) for word in words)]

    def check(self) -> None:
        assert self.process.poll() is None, f"it ended and said:\n{self.output.read_text()}"

    def says_ready(self) -> bool:
        """As a user is told, which is a moment after `/health/ready`: what dies from now on is revived."""
        self.check()
        return "Ctrl-C stops everything" in self.output.read_text()[self.said_before :]

    def submit(self, **job: Any) -> str:
        with self.client() as client:
            answer = client.post("/v1/jobs", json=job)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

    def finished(self, job_id: str, within: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + within
        with self.client() as client:
            while True:
                job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", params={"wait": 10}).json()
                if job["status"] not in ("queued", "running"):
                    return job
                assert time.monotonic() < deadline, job

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """Sends one signal and waits for the end."""
        self.process.send_signal(number)
        return self.process.wait(within)


def clean_environ() -> dict[str, str]:
    """This environment without settings of Podium."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PODIUM_")}


def wait_until_ready(url: str, check: Callable[[], None], within: float) -> None:
    """Until the API at `url` says that it can serve; `check` raises if that can't come."""

    def ready() -> bool:
        check()
        try:
            return httpx.get(f"{url}/health/ready", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    until("ready", ready, within)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def podium_up(data_dir: Path, *arguments: str, **environ: str) -> Iterator[Service]:
    """A service of its own, ready. It is stopped at the end if it still runs; nothing stays behind."""
    port, flower_port, mark = free_port(), free_port(), uuid.uuid4().hex
    data_dir.mkdir(parents=True, exist_ok=True)
    output = data_dir / "up.log"
    said_before = len(output.read_text()) if output.exists() else 0
    command = [sys.executable, "-m", "cli", "up", f"--port={port}", f"--flower-port={flower_port}"]
    with output.open("ab") as log:
        process = subprocess.Popen(
            [*command, f"--data-dir={data_dir}", *arguments],
            env={**clean_environ(), **environ, MARK: mark},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    service = Service(
        process,
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{flower_port}",
        data_dir,
        mark,
        output,
        said_before,
    )
    try:
        until("ready", service.says_ready, READY_WITHIN)
        service.processes()
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        for left in service.processes():
            left.kill()
