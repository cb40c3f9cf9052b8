"""The arms of a comparison, as handles on what runs: raw engines, services, vLLM's own server.

Each is given questions and says how many seconds they took. `cli.bench.room` starts and ends them.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.texts import Question, rendered
from cli.bench import machine, wire
from cli.bench.wire import Answer, WrongAnswer
from cli.stack import Part
from jobs.connection import connect
from jobs.errors import PodiumError
from jobs.store import Store
from worker.profiles import ModelProfile


class ArmFailed(PodiumError):
    """An arm of the comparison did not start or did not do its work."""

    code = "arm_failed"


@dataclass
class RawEngine:
    """`bench.raw_engine` and the pipes to it. `about`: what it says of itself."""

    part: Part
    about: dict[str, Any] = field(default_factory=dict)

    def greet(self) -> None:
        self.about = self._read()

    def score(self, asked: Sequence[Question], at_once: int | None = None) -> float:
        """Seconds, as the engine's own process counts them: without the pipe."""
        return float(self._ask(do="score", jobs=asked, at_once=at_once)["seconds"])

    def scores(self, asked: Sequence[Question]) -> list[list[float]]:
        found: list[list[float]] = self._ask(do="score", jobs=asked, at_once=None, scores=True)["scores"]
        return found

    def count(self, asked: Sequence[Question]) -> list[int]:
        """Tokens of each text that the engine reads for these jobs; of the arm `llm`."""
        found: list[int] = self._ask(do="count", jobs=asked)["tokens"]
        return found

    def memory(self) -> dict[str, float]:
        found: dict[str, float] = self._ask(do="memory")
        return found

    def _ask(self, **what: Any) -> dict[str, Any]:
        assert self.part.process.stdin is not None
        try:
            self.part.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.part.process.stdin.flush()
        except BrokenPipeError:
            self._died()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.part.process.stdout is not None
        line = self.part.process.stdout.readline()
        if not line:
            self._died()
        found: dict[str, Any] = json.loads(line)
        return found

    def _died(self) -> None:
        self.part.process.wait(30)
        raise ArmFailed(self.part.obituary())


@dataclass(frozen=True)
class Service:
    """`podium up` as a user starts it, without page and Flower."""

    url: str
    data_dir: Path
    part: Part
    model: str

    def score(self, asked: Sequence[Question], at_once: int) -> float:
        """Seconds from the first job submitted to the last result here, with `at_once` jobs in flight."""
        seconds, answers = asyncio.run(
            wire.ask_all(self.url, [self.job(one) for one in asked], at_once, wire.job_ended)
        )
        for answer, (_, documents) in zip(answers, asked, strict=True):
            _succeeded(answer, len(documents))
        return seconds

    def ranked(self, asked: Sequence[Question], at_once: int) -> tuple[float, list[list[float]]]:
        """As `score`, with each job's scores in the order of its documents."""
        seconds, answers = asyncio.run(
            wire.ask_all(self.url, [self.job(one) for one in asked], at_once, wire.job_ended)
        )
        return seconds, [_in_order(answer.json()["results"]) for answer in answers]

    def scores(self, asked: Sequence[Question]) -> list[list[float]]:
        return self.ranked(asked, 1)[1]

    def job(self, asked: Question, *, wait: bool = True, **more: Any) -> bytes:
        """The request of one job, of the lane `interactive` if nothing else is said."""
        query, documents = asked
        body = {"query": query, "documents": documents, **more}
        return wire.request("POST", "/v1/jobs", body, **({"Prefer": "wait=60"} if wait else {}))

    @property
    def redis_url(self) -> str:
        config = (self.data_dir / "valkey.conf").read_text(encoding="utf-8").splitlines()
        port = next(line.split()[1] for line in config if line.startswith("port"))
        return f"redis://127.0.0.1:{port}/0"

    @contextmanager
    def store(self) -> Iterator[Store]:
        redis = connect(self.redis_url)
        try:
            yield Store(redis)
        finally:
            redis.close()

    def processes(self) -> dict[int, str]:
        """Which part of the service each of its processes is."""
        found = {}
        for pid in machine.family(self.part.process.pid):
            with suppress(FileNotFoundError):  # it has ended
                said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found[pid] = part_of(said.decode(errors="replace"))
        return found

    def worker_pid(self) -> int:
        """Of the process with the engine, by the name in its heartbeat."""
        with self.store() as store:
            (name,) = [worker["name"] for worker in store.workers() if worker["role"] == "score"]
        return int(name.removeprefix("score-").partition("@")[0])


@dataclass(frozen=True)
class Server:
    """vLLM's own HTTP server."""

    url: str
    part: Part
    profile: ModelProfile

    def score(self, asked: Sequence[Question], at_once: int) -> float:
        seconds, answers = asyncio.run(wire.ask_all(self.url, [self.job(one) for one in asked], at_once))
        for answer, (_, documents) in zip(answers, asked, strict=True):
            if answer.status != 200 or answer.body.count(b'"relevance_score"') != len(documents):
                raise WrongAnswer(f"vLLM's server answered {answer.status}: {answer.body[:300]!r}")
        return seconds

    def scores(self, asked: Sequence[Question]) -> list[list[float]]:
        _, answers = asyncio.run(wire.ask_all(self.url, [self.job(one) for one in asked], 1))
        return [_in_order(answer.json()["results"]) for answer in answers]

    def job(self, asked: Question) -> bytes:
        """Query and document are given rendered where the model has a template: the same token ids."""
        query, documents = asked
        head, tail = rendered(self.profile, query)
        body = {"model": "m", "query": head, "documents": [f"{document}{tail}" for document in documents]}
        return wire.request("POST", "/rerank", body)


def part_of(command: str) -> str:
    """Which part of a service a process is, by its command line. `callbacks` too if it starts the others."""
    words = command.split()
    if "VLLM::" in command:
        return "engine"
    if words and words[0].endswith(("valkey-server", "redis-server")):
        return "valkey"
    if "api" in words[1:5]:
        return "api"
    return "worker" if "celeryd:" in command and "callbacks-" not in command else "callbacks"


def _succeeded(answer: Answer, documents: int) -> None:
    if answer.status != 200 or answer.body.count(b'"relevance_score"') != documents:
        raise WrongAnswer(f"a job did not succeed: {answer.status}, {answer.body[:300]!r}")


def _in_order(results: list[dict[str, Any]]) -> list[float]:
    scores = {result["index"]: float(result["relevance_score"]) for result in results}
    return [scores[index] for index in sorted(scores)]
