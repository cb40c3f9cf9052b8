"""`podium bench lanes`: what a bulk backlog costs those who wait, and what they cost the backlog.

An interactive job is sent once a second, first at idle, then while bulk jobs wait. Bulk alone is measured
before and after that (off, on, off), so that a machine that changes its pace shows.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from cli.bench import figures, machine, report, wire
from cli.bench.arms import Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, check_engine, room, workshop
from cli.bench.wire import Connection, WrongAnswer

INTERACTIVE, BULK = 10, 200
"""Documents of a job of each lane."""

WORDS = (60, 60)

COLUMNS = (
    Column("figure", "interactive job of 10 documents"),
    Column("p50", "p50, ms", 0),
    Column("p95", "p95, ms", 0),
    Column("bulk", "bulk, documents/s", 1),
)


@dataclass(frozen=True)
class Options:
    model: str = "minilm"
    samples: int = 30
    jobs: int = 200
    seed: int = 1


@dataclass(frozen=True)
class Found:
    """Milliseconds of interactive jobs, and bulk documents/s: alone before, beside them, alone after."""

    idle: Sequence[float]
    loaded: Sequence[float]
    alone_before: float
    beside: float
    alone_after: float
    interactive_per_s: float


def lanes(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    if options.model != FAKE:
        check_engine()
    with (
        workshop() as folder,
        Steps(console, 3 * options.samples) as steps,
        room(folder, steps.now) as here,
    ):
        service = here.service(options.model)
        others = machine.Others()
        found = asyncio.run(measure(service, options, steps))
        share = others.share()
        settings = here.settings(options.model)
        engine = {
            "settings": settings.engine.model_dump(mode="json"),
            "worker": settings.worker.model_dump(mode="json"),
        }
    facts = summary(found)
    report.show(output, table(found), COLUMNS)
    console.print(
        f"Interactive beside bulk: {facts['interactive_ratio']} times its idle p95. Bulk lost "
        f"{facts['bulk_loss']:.1%} beyond the interactive jobs' own share.",
        style="dim",
    )
    report.tell_of_others([share])
    made = report.made(
        "lanes",
        asdict(options),
        about,
        engine=engine,
        **facts,
        others_cpu_share=share,
        rounds=asdict(found),
    )
    report.write(output, made)
    if output.plots is not None:
        plot(found, output.plots)
    return 0


async def measure(service: Service, options: Options, steps: Steps) -> Found:
    half = max(1, options.samples // 2)
    asking = _Interactive(service, options.seed, steps)
    steps.now("interactive jobs at idle")
    await asking.once_a_second(3)
    idle = await asking.once_a_second(options.samples, counted=True)
    steps.now(f"submitting {options.jobs} bulk jobs of {BULK} documents")
    await _submit_bulk(service, options)
    steps.now("bulk alone")
    await asyncio.sleep(3)
    alone_before = await _bulk_rate(service, _rest(half, steps))
    steps.now("interactive jobs beside bulk")
    await asking.once_a_second(2)
    loaded: list[float] = []
    began = time.monotonic()

    async def beside_bulk() -> None:
        loaded.extend(await asking.once_a_second(options.samples, counted=True))

    beside = await _bulk_rate(service, beside_bulk())
    interactive_per_s = options.samples * INTERACTIVE / (time.monotonic() - began)
    steps.now("bulk alone")
    await asyncio.sleep(1)
    alone_after = await _bulk_rate(service, _rest(options.samples - half, steps))
    if _bulk_scored(service) == options.jobs * BULK:
        raise WrongAnswer("the bulk backlog ran out before the end: ask for more with --jobs")
    return Found(idle, loaded, alone_before, beside, alone_after, interactive_per_s)


class _Interactive:
    """Sends interactive jobs, none like another."""

    def __init__(self, service: Service, seed: int, steps: Steps) -> None:
        self._service, self._steps = service, steps
        self._seed = seed * 1_000_003

    async def once_a_second(self, count: int, *, counted: bool = False) -> list[float]:
        """Milliseconds from each request to its scores."""
        self._seed += 1
        line = await Connection.open(self._service.url)
        found = []
        for question in texts.questions(self._seed, count, INTERACTIVE, WORDS):
            due = time.monotonic() + 1
            answer = await wire.job_ended(line, self._service.job(question))
            if b'"succeeded"' not in answer.body:
                raise WrongAnswer(f"an interactive job did not succeed: {answer.body[:300]!r}")
            found.append(answer.seconds * 1_000)
            if counted:
                self._steps.done()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await line.close()
        return found


async def _submit_bulk(service: Service, options: Options) -> None:
    for start in range(0, options.jobs, 20):  # in pieces: their texts are megabytes
        asked = texts.questions(options.seed * 7_919 + start, min(20, options.jobs - start), BULK, WORDS)
        requests = [service.job(one, wait=False, lane="bulk") for one in asked]
        _, answers = await wire.ask_all(service.url, requests, 2)
        if any(answer.status != 202 for answer in answers):
            raise WrongAnswer("a bulk job was not accepted")


async def _bulk_rate(service: Service, meanwhile: Any) -> float:
    """Bulk documents scored for each second while `meanwhile` runs."""
    before, began = _bulk_scored(service), time.monotonic()
    await meanwhile
    return (_bulk_scored(service) - before) / (time.monotonic() - began)


def _bulk_scored(service: Service) -> int:
    with service.store() as store:
        return sum(job.scored for _, job in store.jobs_of("local") if job.lane == "bulk")


async def _rest(seconds: int, steps: Steps) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1)
        steps.done()


def summary(found: Found) -> dict[str, Any]:
    alone = (found.alone_before + found.alone_after) / 2
    idle, loaded = (figures.percentile(times, 0.95) for times in (found.idle, found.loaded))
    return {
        "interactive_idle_p50_ms": figures.short(figures.percentile(found.idle, 0.5)),
        "interactive_idle_p95_ms": figures.short(idle),
        "interactive_loaded_p50_ms": figures.short(figures.percentile(found.loaded, 0.5)),
        "interactive_loaded_p95_ms": figures.short(loaded),
        "interactive_ratio": figures.short(loaded / idle),
        "bulk_documents_per_s": figures.short(found.beside),
        "bulk_alone_documents_per_s": figures.short(alone),
        "bulk_loss": bulk_loss(alone, found.beside, found.interactive_per_s),
    }


def bulk_loss(alone: float, beside: float, interactive: float) -> float:
    """The share of what bulk does alone that neither bulk nor the interactive jobs got: documents/s each."""
    return round(1 - (beside + interactive) / alone, 4) if alone else 0.0


def table(found: Found) -> list[Mapping[str, Any]]:
    def times(values: Sequence[float]) -> dict[str, float]:
        return {"p50": figures.percentile(values, 0.5), "p95": figures.percentile(values, 0.95)}

    return [
        {"figure": "at idle", **times(found.idle)},
        {"figure": "(bulk alone, before)", "bulk": found.alone_before},
        {"figure": "beside bulk", **times(found.loaded), "bulk": found.beside},
        {"figure": "(bulk alone, after)", "bulk": found.alone_after},
    ]


def plot(found: Found, folder: Path) -> None:
    from cli.bench import plots

    values = {"at idle": found.idle, "beside a bulk backlog": found.loaded}
    plots.histogram(folder / "lanes.png", values, title="An interactive job of 10 documents", x="ms")
