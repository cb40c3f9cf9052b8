"""Single parts of the service as processes: as many of each as a test wants, killed and paused one by one."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from redis import Redis

from cli.stack import Part, Stack
from cli.up import start_valkey
from jobs.connection import connect
from jobs.model import Job
from jobs.queue import Doorbell, make_app
from jobs.settings import Settings, load
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import SECRET
from tests.support.podium_up import clean_environ
from tests.support.ports import free_port
from tests.support.waiting import until

STARTS_WITHIN = 40.0


@dataclass
class Parts:
    """What runs, and both ways to look at it: over HTTP, as a caller, and at what Redis holds."""

    folder: Path
    stack: Stack
    environ: Mapping[str, str]
    settings: Settings
    redis: Redis
    store: Store
    doorbell: Doorbell
    url: str = ""

    # -- processes -----------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Starts `api`, `callbacks`, `score-1`, `score-2`, …; returns when each can take what it is for."""
        for name in names:
            kind = name.partition("-")[0]
            if kind == "api":
                self._start_api(name, ["-m", "cli", "api"])
            else:
                self.start_blindly(name)
        until(f"{', '.join(names)} started", lambda: all(map(self._serves, names)), STARTS_WITHIN)

    def start_blindly(self, name: str, **environ: str) -> None:
        """Starts a worker and does not wait until it can take work."""
        self.stack.start_podium(name, "worker", name.partition("-")[0], env={**self.environ, **environ})

    def start_other_api(self, name: str, program: Path) -> None:
        """Starts a program that is an API; it is the one that is called from now on."""
        self._start_api(name, [str(program)])
        until(f"{name} started", lambda: self._serves("api"), STARTS_WITHIN)

    def part(self, name: str) -> Part:
        return next(part for part in self.stack.parts if part.name == name)

    def log(self, name: str) -> str:
        return self.part(name).log.read_text(encoding="utf-8", errors="replace")

    def worker(self, name: str) -> str:
        """How a worker calls itself in results and heartbeats, up to the name of its host."""
        return f"{name.partition('-')[0]}-{self.part(name).process.pid}@"

    def end(self, name: str, number: signal.Signals = signal.SIGTERM, within: float = 20) -> int:
        """Sends a part one signal. Its exit code."""
        process = self.part(name).process
        process.send_signal(number)
        return process.wait(within)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """The part stands still while the block runs."""
        process = psutil.Process(self.part(name).process.pid)
        process.suspend()
        try:
            until("stopped", lambda: process.status() == psutil.STATUS_STOPPED, 5)
            yield
        finally:
            process.resume()

    def _start_api(self, name: str, program: list[str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.stack.start(name, [sys.executable, *program, f"--port={port}", "--no-page"], self.environ)

    def _serves(self, name: str) -> bool:
        self.stack.check()
        if name.startswith("api"):
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/health/live", trust_env=False).is_success
            return False
        return any(str(worker["name"]).startswith(self.worker(name)) for worker in self.store.workers())

    # -- jobs ----------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to the API that was started last."""
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            return client.request(method, path, **options)

    def submit(self, **job: Any) -> str:
        answer = self.call("POST", "/v1/jobs", json=job)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> Job:
        found = self.store.get(job_id)
        assert found is not None, f"{job_id} is lost"
        return found

    def until_running(self, job_id: str, scored: int = 0, within: float = 20) -> Job:
        """`scored` above 0: the engine has that much behind it, so that it is in the midst of the job."""

        def runs() -> bool:
            job = self.job(job_id)
            assert not job.state.terminal, "it has ended: too late to show anything"
            return job.state is JobState.RUNNING and job.scored >= scored

        until(f"{job_id} runs", runs, within)
        return self.job(job_id)

    def until_ended(self, job_id: str, within: float = 20) -> Job:
        until(f"{job_id} has ended", lambda: self.job(job_id).state.terminal, within)
        return self.job(job_id)


@contextmanager
def parts(folder: Path, *names: str, **environ: str) -> Iterator[Parts]:
    """An embedded Valkey and the parts that are named, with the fake engine. Nothing of it stays behind."""
    env = {
        **clean_environ(),
        "PODIUM_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "PODIUM_ENGINE__KIND": "fake",
        "PODIUM_CALLBACK_ALLOW": "127.0.0.0/8",
        "PODIUM_CALLBACK_SECRET": SECRET,
        **environ,
    }
    settings, stack = load(env), Stack(folder)
    redis, app = connect(settings.redis_url), make_app(settings)
    try:
        start_valkey(stack, folder, settings.redis_url, env)
        running = Parts(folder, stack, env, settings, redis, Store(redis), Doorbell(app, redis))
        running.start(*names)
        yield running
    finally:
        for part in stack.parts:
            if part.alive and part.name != "valkey":
                part.process.kill()  # how parts end in order is shown elsewhere
        stack.stop()
        app.close()
        redis.close()
