"""`podium bench growth`: what stays flat as jobs and queues grow.

Three parts. One job of 1 to 5,000 documents, through HTTP at idle: with the fake engine at no cost of its
own, so that all time is Podium's. The memory that a worker takes more for the largest of them. And a queue of
up to 100,000 waiting jobs in a Valkey of its own: bytes for each, and the time to store and to claim one.
"""

import asyncio
import random
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from bench import texts
from cli.bench import figures, machine, report, wire
from cli.bench.arms import Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, Room, check_engine, room, workshop
from cli.bench.wire import Connection, WrongAnswer
from cli.up import free_port, start_valkey
from jobs import settings as podium_settings
from jobs.connection import connect
from jobs.model import Document, Lane, NewJob, Work
from jobs.states import Outcome
from jobs.store import Store

DOCUMENTS = (1, 10, 100, 1_000, 5_000)

COMPARED = 100
"""Sizes from here on are compared: below, a job's fixed cost hides what a document takes."""

COMPARED_WAITING = 1_000
"""Queues from here on are compared: below, Redis' own first pages count."""

NO_COST = {"PODIUM_ENGINE__FAKE_STEP": "0", "PODIUM_ENGINE__FAKE_TOKEN": "0"}

CLAIMED = 200
"""Jobs that are claimed, and put back, at each length of the queue."""

WORKS = 100
"""Different works that waiting jobs have: each is compressed by itself, so that more would change nothing."""

DOCUMENT_COLUMNS = (
    Column("documents", "documents/job"),
    Column("job_ms", "job, ms", 1),
    Column("ms_per_document", "ms/document", 3),
    Column("marginal_ms_per_document", "ms/document beyond the first", 3),
)
QUEUE_COLUMNS = (
    Column("waiting", "waiting jobs"),
    Column("bytes_per_job", "bytes/job", 0),
    Column("store_ms", "storing one, ms", 3),
    Column("claim_ms", "claiming one, ms", 3),
)


@dataclass(frozen=True)
class Options:
    """`waiting`: the longest queue; 0 leaves that part out. `waiting_documents`: of about 1 kB each."""

    model: str = FAKE
    documents: tuple[int, ...] = DOCUMENTS
    waiting: int = 100_000
    waiting_documents: int = 20
    repeats: int = 5
    seed: int = 1


def growth(options: Options, output: Output) -> int:
    """Prints the tables and writes what was asked for."""
    about = report.start(output)
    if options.model != FAKE:
        check_engine()
    depths, others = depths_of(options.waiting), machine.Others()
    with workshop() as folder, Steps(console, 1 + options.repeats + len(depths)) as steps:
        with room(folder / "jobs", steps.now) as here:
            environ = NO_COST if options.model == FAKE else {}
            service = here.service(options.model, **environ)
            added = large_job_memory(service, options, steps)
            jobs = asyncio.run(job_sizes(service, options, steps))
            engine = here.settings(options.model, **environ).engine.model_dump(mode="json")
        with room(folder / "queue", steps.now) as here:
            queue = queue_lengths(here, folder / "queue", depths, options, steps) if depths else []
    share = others.share()
    found = {**summary(jobs, queue), "large_job_added_mb": figures.short(added)}
    report.show(output, jobs, DOCUMENT_COLUMNS)
    if queue:
        report.show(output, queue, QUEUE_COLUMNS)
    for name, value in found.items():
        console.print(f"{name}: {value}", style="dim")
    report.tell_of_others([share])
    made = report.made(
        "growth",
        asdict(options),
        about,
        engine=engine,
        **found,
        others_cpu_share=share,
        jobs=jobs,
        waiting=queue,
    )
    report.write(output, made)
    if output.plots is not None:
        plot(jobs, queue, output.plots)
    return 0


def depths_of(longest: int) -> list[int]:
    """100, 1,000, … up to the longest queue."""
    powers = [10**power for power in range(2, 9) if 10**power < longest]
    return [*powers, longest] if longest else []


# -- documents of a job -------------------------------------------------------------------------------


def large_job_memory(service: Service, options: Options, steps: Steps) -> float:
    """MB that the worker's peak rises by for one job of the largest size, after it has run smaller ones."""
    largest = max(options.documents)
    steps.now(f"memory of a job of {largest:,} documents")
    service.score(texts.questions(options.seed + 1, 4, max(1, largest // 50)), 2)
    pid = service.worker_pid()
    before = machine.restart_peak(pid)
    service.score(texts.questions(options.seed + 2, 1, largest), 1)
    steps.done()
    return machine.peak_mb(pid) - before


async def job_sizes(service: Service, options: Options, steps: Steps) -> list[dict[str, Any]]:
    """Milliseconds of one job of each size, sizes interleaved; medians."""
    line = await Connection.open(service.url)
    times: dict[int, list[float]] = {size: [] for size in options.documents}
    for number in range(options.repeats):
        for size in options.documents:
            steps.now(f"a job of {size:,} documents, round {number + 1} of {options.repeats}")
            for again in range(5 if size <= 100 else 1):
                seed = options.seed * 1_000_003 + size * 1_009 + number * 10 + again
                (question,) = texts.questions(seed, 1, size)
                answer = await wire.job_ended(line, service.job(question))
                if b'"succeeded"' not in answer.body:
                    raise WrongAnswer(f"a job did not succeed: {answer.body[:300]!r}")
                times[size].append(answer.seconds * 1_000)
        steps.done()
    await line.close()
    medians = {size: figures.percentile(found, 0.5) for size, found in times.items()}
    fixed = min(medians.items())
    return [
        {
            "documents": size,
            "job_ms": figures.short(took),
            "ms_per_document": figures.short(took / size),
            "marginal_ms_per_document": figures.short(marginal(fixed, (size, took))),
            "all_ms": [figures.short(one) for one in times[size]],
        }
        for size, took in medians.items()
    ]


def marginal(small: tuple[int, float], large: tuple[int, float]) -> float | None:
    """What each document more has cost, from one size to the other; None from a size to itself."""
    return figures.divided(large[1] - small[1], large[0] - small[0])


# -- waiting jobs -------------------------------------------------------------------------------------


def queue_lengths(
    here: Room, folder: Path, depths: Sequence[int], options: Options, steps: Steps
) -> list[dict[str, Any]]:
    """Fills a queue that nobody works on, and looks at it at each length."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    start_valkey(here.stack, folder, url, here.environ)
    redis = connect(url)
    store = Store(redis)
    works = waiting_works(options.waiting_documents, options.seed)
    before, done = _used(redis), 0
    rows = []
    for depth in depths:
        steps.now(f"filling the queue up to {depth:,} jobs")
        first, began = done, time.perf_counter()
        while done < depth:
            store.create(_waiting_job(works[done % len(works)]))
            done += 1
        store_ms = (time.perf_counter() - began) * 1_000 / (done - first)
        rows.append(
            {
                "waiting": done,
                "bytes_per_job": round((_used(redis) - before) / done),
                "store_ms": figures.short(store_ms),
                "claim_ms": figures.short(_claim_ms(store)),
            }
        )
        steps.done()
    redis.close()
    return rows


def waiting_works(documents: int, seed: int) -> list[Work]:
    """Documents of about 1 kB whose words are drawn as often as words are drawn in texts (Zipf).

    The words are those of this project's own documentation: random letters would not compress, and a
    repeated text would too well.
    """
    chance = random.Random(seed)
    written = sorted(podium_settings.ROOT.glob("*.md")) + sorted(podium_settings.ROOT.glob("docs/**/*.md"))
    text = " ".join(path.read_text(encoding="utf-8") for path in written)
    words = list(dict.fromkeys(re.findall(r"[A-Za-z]{2,}", text))) or list(texts.WORDS)
    weights = [1 / (rank + 2) for rank in range(len(words))]
    return [
        Work(
            query="how a job is ranked",
            documents=tuple(
                Document(text=" ".join(chance.choices(words, weights, k=170))[:1_000])
                for _ in range(documents)
            ),
        )
        for _ in range(WORKS)
    ]


def _waiting_job(work: Work) -> NewJob:
    return NewJob(
        id=str(uuid.uuid4()),
        owner="local",
        model="minilm",
        lane=Lane.BULK,
        work=work,
        result_ttl=timedelta(hours=24),
    )


def _claim_ms(store: Store) -> float:
    """The median of some claims. Each job is put back."""
    took = []
    for job_id in store.waiting("minilm", Lane.BULK, CLAIMED):
        began = time.perf_counter()
        claim = store.claim(job_id, "bench", timedelta(minutes=1))
        took.append((time.perf_counter() - began) * 1_000)
        if isinstance(claim, Outcome):
            raise WrongAnswer(f"a waiting job could not be claimed: {claim}")
        store.release(job_id, claim.generation, charge=False)
    return figures.percentile(took, 0.5)


def _used(redis: "Redis") -> int:
    info: Any = redis.info("memory")
    return int(info["used_memory"])


def summary(jobs: Sequence[Mapping[str, Any]], queue: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The slopes: 0 is flat."""
    points = [(row["documents"], row["job_ms"]) for row in jobs]
    fixed, each = figures.line(points)
    marginals = [row["marginal_ms_per_document"] for row in jobs if row["documents"] >= COMPARED]
    bytes_per_job = [row["bytes_per_job"] for row in queue if row["waiting"] >= COMPARED_WAITING]
    return {
        "fixed_ms_per_job": figures.short(fixed),
        "fitted_ms_per_document": figures.short(each),
        "time_per_document_growth": figures.short(_growth(marginals)),
        "bytes_per_job": bytes_per_job[-1] if bytes_per_job else None,
        "memory_per_job_growth": figures.short(_growth(bytes_per_job)),
        "store_time_growth": figures.short(_growth([row["store_ms"] for row in queue])),
        "claim_time_growth": figures.short(_growth([row["claim_ms"] for row in queue])),
    }


def _growth(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return figures.growth(known) if len(known) > 1 else None


def plot(jobs: Sequence[Mapping[str, Any]], queue: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from cli.bench import plots

    series = {
        "with the job's fixed cost": [(row["documents"], row["ms_per_document"]) for row in jobs],
        "beyond the first document": [
            (row["documents"], row["marginal_ms_per_document"])
            for row in jobs
            if row["marginal_ms_per_document"] is not None
        ],
    }
    title, x = "Time for each document of a job", "documents/job"
    plots.lines(folder / "growth-documents.png", series, title=title, x=x, y="ms/document", log="xy")
    if queue:
        memory = {"memory": [(row["waiting"], row["bytes_per_job"]) for row in queue]}
        title, x = "Memory for each waiting job", "waiting jobs"
        plots.lines(folder / "growth-waiting.png", memory, title=title, x=x, y="bytes/job")
