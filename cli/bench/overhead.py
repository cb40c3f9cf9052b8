"""`podium bench overhead`: what the service adds to one job at idle, how far a dialect is from a job, and how
fast the API accepts jobs.

Overhead is a difference of two clocks outside of the service: the caller's, around one job through HTTP, and
that of the raw engine's own process, around the same job. The service's own timings play no part.
"""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from bench.texts import Question
from cli.bench import figures, machine, report, wire
from cli.bench.arms import RawEngine, Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, TINY, check_engine, room, workshop
from cli.bench.wire import Connection, WrongAnswer

UNSERVED = "minilm"
"""A second model that the API knows and no worker serves, so that accepted jobs only wait."""

PAUSE = 0.02
"""Seconds of nothing before each job: the service is idle."""

COLUMNS = (
    Column("figure", "figure"),
    Column("p50", "p50", 2),
    Column("p95", "p95", 2),
    Column("p99", "p99", 2),
)


@dataclass(frozen=True)
class Options:
    model: str = TINY
    documents: int = 5
    jobs: int = 60
    accepted: int = 3_000
    connections: int = 8
    repeats: int = 3
    seed: int = 1


def overhead(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    if options.model != FAKE:
        check_engine()
    with (
        workshop() as folder,
        Steps(console, 2 * options.jobs + options.repeats) as steps,
        room(folder, steps.now) as here,
    ):
        raw = here.raw("engine", options.model)
        unserved = UNSERVED if options.model != UNSERVED else TINY
        here.profile(unserved)
        service = here.service(options.model, PODIUM_MODELS=unserved)
        others = machine.Others()
        pairs = one_job(service, raw, options, steps)
        drop_in = both_ways(service, options, steps)
        rounds = [accept(service, unserved, options, number, steps) for number in range(options.repeats)]
        share = others.share()
        engine = {**raw.about, "settings": here.settings(options.model).engine.model_dump(mode="json")}
    found = summary(pairs, drop_in, rounds)
    rows = table(pairs, drop_in, rounds)
    report.show(output, rows, COLUMNS)
    console.print(
        f"{found['accept_jobs_per_s']:,.0f} jobs/s accepted by one API process, {options.connections} "
        "connections, jobs of 5 documents of 30 words. Overhead: through HTTP, minus the raw engine's time "
        "for the same job, in pairs.",
        style="dim",
    )
    report.tell_of_others([share])
    made = report.made(
        "overhead",
        asdict(options),
        about,
        engine=engine,
        **found,
        others_cpu_share=share,
        pairs=pairs,
        drop_in=drop_in,
        rounds=rounds,
    )
    report.write(output, made)
    if output.plots is not None:
        plot(pairs, output.plots)
    return 0


def one_job(service: Service, raw: RawEngine, options: Options, steps: Steps) -> list[dict[str, float]]:
    """Milliseconds of each job through the service and in the raw engine, one right after the other."""
    warm, asked = 10, texts.questions(options.seed, options.jobs + 10, options.documents)

    async def through() -> list[dict[str, float]]:
        line = await Connection.open(service.url)
        found = []
        for number, question in enumerate(asked):
            which = f"{number - warm + 1} of {options.jobs}" if number >= warm else "warming"
            steps.now(f"one job at idle: {which}")
            service_first = number % 2 == 0
            engine = 0.0 if service_first else raw.score([question])
            await asyncio.sleep(PAUSE)
            answer = await wire.job_ended(line, service.job(question))
            if b'"succeeded"' not in answer.body:
                raise WrongAnswer(f"a job did not succeed: {answer.body[:300]!r}")
            engine = raw.score([question]) if service_first else engine
            if number >= warm:
                found.append({"service_ms": answer.seconds * 1_000, "engine_ms": engine * 1_000})
                steps.done()
        await line.close()
        return found

    return asyncio.run(through())


def both_ways(service: Service, options: Options, steps: Steps) -> list[dict[str, float]]:
    """Milliseconds of ten documents as `POST /v1/rerank` and as `POST /v1/jobs` with `Prefer: wait`."""
    ways = ("rerank_ms", "job_ms")
    asked = texts.questions(options.seed + 50_000, len(ways) * options.jobs, 10)

    async def ask() -> list[dict[str, float]]:
        line = await Connection.open(service.url)
        found = []
        for number in range(options.jobs):
            steps.now(f"ten documents both ways: {number + 1} of {options.jobs}")
            took = {}
            for way in sorted(ways, reverse=number % 2 == 0):
                query, documents = question = asked.pop()  # each its own: no cache helps the second
                body = {"query": query, "documents": documents}
                dialect = way == "rerank_ms"
                sent = wire.request("POST", "/v1/rerank", body) if dialect else service.job(question)
                await asyncio.sleep(PAUSE)
                answer = await line.ask(sent)
                if answer.status != 200:
                    raise WrongAnswer(f"{way}: {answer.status} {answer.body[:300]!r}")
                took[way] = answer.seconds * 1_000
            found.append(took)
            steps.done()
        await line.close()
        return found

    return asyncio.run(ask())


def accept(service: Service, model: str, options: Options, number: int, steps: Steps) -> dict[str, Any]:
    """One round of `POST /v1/jobs` without waiting, in a closed loop with several connections."""
    steps.now(f"accepting jobs, round {number + 1} of {options.repeats}")
    asked: Sequence[Question] = texts.questions(
        options.seed + 10_000 + number, options.accepted, 5, words=(30, 30)
    )
    requests = [service.job(one, wait=False, model=model) for one in asked]
    if number == 0:
        asyncio.run(wire.ask_all(service.url, requests[: options.accepted // 10], options.connections))
    gc.collect()
    gc.disable()  # the client's own pauses are not the API's
    try:
        seconds, answers = asyncio.run(wire.ask_all(service.url, requests, options.connections))
    finally:
        gc.enable()
    refused = [answer for answer in answers if answer.status != 202]
    if refused:
        raise WrongAnswer(f"{len(refused)} jobs were not accepted: {refused[0].body[:300]!r}")
    steps.done()
    time.sleep(1)  # events are on their way
    took = [answer.seconds * 1_000 for answer in answers]
    return {"jobs_per_s": len(answers) / seconds, **percentiles(took)}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}_ms": figures.percentile(values, share / 100) for share in (50, 95, 99)}


def summary(
    pairs: Sequence[Mapping[str, float]],
    drop_in: Sequence[Mapping[str, float]],
    rounds: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    added = [pair["service_ms"] - pair["engine_ms"] for pair in pairs]
    return {
        "overhead_p50_ms": figures.short(figures.percentile(added, 0.5)),
        "overhead_p95_ms": figures.short(figures.percentile(added, 0.95)),
        "service_p50_ms": figures.short(figures.percentile([pair["service_ms"] for pair in pairs], 0.5)),
        "engine_p50_ms": figures.short(figures.percentile([pair["engine_ms"] for pair in pairs], 0.5)),
        "rerank_p50_ms": figures.short(figures.median_of(drop_in, "rerank_ms")),
        "job_p50_ms": figures.short(figures.median_of(drop_in, "job_ms")),
        "accept_jobs_per_s": figures.short(figures.median_of(rounds, "jobs_per_s")),
        "accept_p50_ms": figures.short(figures.median_of(rounds, "p50_ms")),
        "accept_p99_ms": figures.short(figures.median_of(rounds, "p99_ms")),
    }


def table(
    pairs: Sequence[Mapping[str, float]],
    drop_in: Sequence[Mapping[str, float]],
    rounds: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Rows for the screen."""
    added = [pair["service_ms"] - pair["engine_ms"] for pair in pairs]
    through, engine = ([pair[key] for pair in pairs] for key in ("service_ms", "engine_ms"))
    rows = []
    for name, values in (
        ("one job through HTTP, ms", through),
        ("the same in the raw engine, ms", engine),
        ("overhead (paired differences), ms", added),
        ("ten documents, POST /v1/rerank, ms", [one["rerank_ms"] for one in drop_in]),
        ("the same as a job, Prefer: wait, ms", [one["job_ms"] for one in drop_in]),
    ):
        rows.append({"figure": name, **{key[:3]: value for key, value in percentiles(values).items()}})
    medians = {share: figures.median_of(rounds, f"{share}_ms") for share in ("p50", "p95", "p99")}
    return [*rows, {"figure": "POST /v1/jobs under load, ms", **medians}]


def plot(pairs: Sequence[Mapping[str, float]], folder: Path) -> None:
    from cli.bench import plots

    values = {
        "through HTTP": [pair["service_ms"] for pair in pairs],
        "raw engine": [pair["engine_ms"] for pair in pairs],
        "overhead": [pair["service_ms"] - pair["engine_ms"] for pair in pairs],
    }
    plots.histogram(folder / "overhead.png", values, title="One job at idle", x="ms")
