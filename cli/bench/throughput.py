"""`podium bench throughput`: pairs/s of the service against what its engine could do without it.

Arms of one model start one after another, stay up side by side, and are measured in interleaved rounds on
the same pairs. Ratios are taken within each round; what is shown are medians.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from bench.texts import Question
from cli.bench import figures, machine, report
from cli.bench.arms import RawEngine, Server, Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, TINY, Room, check_engine, room, workshop

MODELS = (TINY, "minilm", FAKE)
DOCUMENTS = (1, 5, 20, 100)

PAIRS, FAKE_PAIRS = 1_000, 4_000
"""Pairs of each arm in each round; the fake engine is a GPU, and faster."""

ONE_BY_ONE = 200
"""Jobs, at most, of an arm that takes one job at a time: its rate needs no more."""

IN_FLIGHT = (32, 128, 512)
"""Pairs in flight among which the best is looked for: as many jobs as they make."""

COLUMNS = (
    Column("model", "model"),
    Column("docs_per_job", "docs"),
    Column("engine_pairs_per_s", "raw engine", 0),
    Column("service_pairs_per_s", "service", 0),
    Column("throughput_ratio", "ratio", 2),
    Column("vllm_serve_pairs_per_s", "vllm serve", 0),
    Column("against_vllm_serve", "ratio", 2),
    Column("coalescing_gain", "gain", 2),
    Column("engine_gain", "engine's", 2),
    Column("coalescing_share", "share", 2),
)

BARE_COLUMNS = (
    Column("bare_pairs_per_s", "bare", 0),
    Column("against_bare", "ratio", 2),
    Column("bare_ratio", "bare's own", 2),
)

EXPLAINED = (
    "pairs/s, medians; a ratio is the median of each round's own. raw engine: the better of LLM on all at "
    "once and AsyncLLM at its best concurrency. ratio: service / what stands before it. gain: service / the "
    "same with engine.coalesce=false. engine's: LLM on all at once / on one job at a time. share: gain / "
    "engine's."
)

BARE_EXPLAINED = (
    "bare: FastAPI, Celery, Valkey and the same engine with none of Podium's promises (bench/bare.py); "
    "service / bare; bare's own: bare / raw engine."
)

ALIKE = 0.02
"""Difference of scores beyond which arms did not do the same work; bfloat16 alone makes less."""

WARM = 4
"""Jobs that an arm is given first when it was woken."""

TRIES = 4
"""Of each number in flight: a try may meet something else that the machine does, so their median counts."""

ENGINE = "engine"
"""The arm of a worker's engine that is stepped directly, where there is no vLLM."""

Arm = Callable[[Sequence[Question], int | None], float]
"""Seconds for the questions, with so many jobs at once (None: all, or the arm's own)."""


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...] = MODELS
    documents: tuple[int, ...] = DOCUMENTS
    pairs: int | None = None
    repeats: int = 5
    seed: int = 1
    bare: bool = False


@dataclass(frozen=True)
class Bench:
    """The arms of one model by name. `begin`: wakes one arm, and lets the others sleep. `one_by_one`: those
    that take one job at a time; `searched`: those for which the best number of jobs in flight is looked for.
    """

    arms: Mapping[str, Arm]
    begin: Callable[[str], None]
    one_by_one: frozenset[str]
    searched: frozenset[str]
    engine: dict[str, Any]
    largest_score_difference: float


def throughput(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    if any(model != FAKE for model in options.models):
        check_engine()
    rows: list[dict[str, Any]] = []
    engines: dict[str, Any] = {}
    try:
        _measure_all(options, rows, engines)
    finally:
        if rows:  # Ctrl-C in the last minute of an hour does not throw the hour away
            _tell(options, output, about, rows, engines)
    return 0


def _measure_all(options: Options, rows: list[dict[str, Any]], engines: dict[str, Any]) -> None:
    """Appends to `rows` as they are measured."""
    arms = sum((4 if model == FAKE else 6) + options.bare for model in options.models)
    total = arms * (options.repeats + 1) * len(options.documents)
    with workshop() as folder, Steps(console, total) as steps:
        for number, model in enumerate(options.models):
            with room(folder / str(number), steps.now) as here:
                bench = start(here, model, options.seed, bare=options.bare)
                engines[model] = bench.engine
                for documents in options.documents:
                    rows.append(measure(bench, model, documents, options, steps))
                    steps.now(told(rows[-1]))


def _tell(
    options: Options,
    output: Output,
    about: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    engines: Mapping[str, Any],
) -> None:
    made = report.made("throughput", asdict(options), about, engines=engines, rows=rows)
    report.show(output, rows, COLUMNS + BARE_COLUMNS if options.bare else COLUMNS)
    console.print(f"{EXPLAINED} {BARE_EXPLAINED}" if options.bare else EXPLAINED, style="dim")
    for model, difference in {row["model"]: row["largest_score_difference"] for row in rows}.items():
        if difference > ALIKE:
            console.print(f"note: {model}: the arms' scores differ by up to {difference:.2g}")
    report.tell_of_others([row["others_cpu_share"] for row in rows])
    if missing := len(options.models) * len(options.documents) - len(rows):
        console.print(f"note: it ended before {missing} more rows were measured")
    report.write(output, made)
    if output.plots is not None:
        plot(rows, output.plots)


def told(row: Mapping[str, Any]) -> str:
    return f"{row['model']}, {row['docs_per_job']} documents: {row['service_pairs_per_s']} pairs/s"


def start(here: Room, model: str, seed: int, *, bare: bool = False) -> Bench:
    """Starts the arms of `model` and compares their scores. `bare`: one more, without a promise."""
    fake = model == FAKE
    raw = here.raw(ENGINE if fake else "llm", model)
    found: dict[str, RawEngine | Service | Server] = {ENGINE if fake else "llm": raw, "one_job": raw}
    if not fake:
        found["async_llm"] = here.raw("async", model)
    service = found["service"] = here.service(model)
    found["uncoalesced"] = here.service(model, PODIUM_ENGINE__COALESCE="false")
    if not fake:
        found["vllm_serve"] = here.server(model, raw)
    if bare:
        found["bare"] = here.bare(model)
    asked = texts.questions(seed + 999, 3, 5)
    ours = service.scores(asked)
    one_by_one = frozenset({"one_job", "uncoalesced"})
    return Bench(
        {name: _arm(name, arm) for name, arm in found.items()},
        lambda arm: here.only(found[arm].part),
        one_by_one,
        frozenset({"async_llm", "service", "vllm_serve", "bare"} & found.keys()),
        _engine(here, model, raw),
        max(farthest(ours, found[arm].scores(asked)) for arm in found.keys() - one_by_one),
    )


def _arm(name: str, arm: RawEngine | Service | Server) -> Arm:
    if isinstance(arm, RawEngine):
        return lambda asked, at_once: arm.score(asked, 1 if name == "one_job" else at_once)
    return lambda asked, at_once: arm.score(asked, at_once or 32)


def _engine(here: Room, model: str, raw: RawEngine) -> dict[str, Any]:
    settings = here.settings(model)
    return {
        "settings": settings.engine.model_dump(mode="json"),
        "worker": settings.worker.model_dump(mode="json"),
        **raw.about,
    }


def farthest(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The largest difference of any score."""
    return max(
        abs(one - other)
        for mine, yours in zip(ours, theirs, strict=True)
        for one, other in zip(mine, yours, strict=True)
    )


def measure(bench: Bench, model: str, documents: int, options: Options, steps: Steps) -> dict[str, Any]:
    """One row: first the best number of jobs in flight is looked for, which warms too; then the rounds."""
    pairs = options.pairs or (FAKE_PAIRS if model == FAKE else PAIRS)
    jobs = max(1, pairs // documents)
    seed = (options.seed * 1_009 + documents) * 1_000_000
    at_once: dict[str, int] = {}
    for place, (arm, run) in enumerate(bench.arms.items()):
        steps.now(f"{model}, jobs of {documents}: warming {arm}")
        bench.begin(arm)
        if arm in bench.searched:
            at_once[arm] = best(run, jobs, documents, seed + place * 100_000)
        else:
            run(texts.questions(seed + place * 100_000, max(1, min(jobs, 200) // 4), documents), None)
        steps.done()
    at_once["uncoalesced"] = at_once["service"]
    rounds: list[dict[str, float]] = []
    others = machine.Others()
    for number in range(options.repeats):
        found: dict[str, float] = {}
        arms = list(bench.arms)
        random.Random(seed + number).shuffle(arms)
        for arm in arms:
            steps.now(f"{model}, jobs of {documents}, round {number + 1} of {options.repeats}: {arm}")
            bench.begin(arm)
            bench.arms[arm](texts.questions(seed + 800_000 + number, WARM, documents), at_once.get(arm))
            asked = _asked(arm, bench, seed + 900_000 + number, jobs, documents)
            found[arm] = texts.pairs(asked) / bench.arms[arm](asked, at_once.get(arm))
            steps.done()
        rounds.append({arm: found[arm] for arm in bench.arms})
    made = row(model, documents, rounds, at_once, bench.largest_score_difference)
    return {**made, "others_cpu_share": others.share()}


def _asked(arm: str, bench: Bench, seed: int, jobs: int, documents: int) -> list[Question]:
    """The same pairs for each arm; but other ones for `one_job`, which shares its engine with `llm`."""
    if arm in bench.one_by_one:
        jobs = min(jobs, ONE_BY_ONE)
    return texts.questions(seed + (50_000 if arm == "one_job" else 0), jobs, documents)


def best(run: Arm, jobs: int, documents: int, seed: int) -> int:
    """How many jobs in flight gave the most pairs/s, of a few numbers tried in turn, each more than once."""
    tried: dict[int, list[float]] = {number: [] for number in at_once_of(jobs, documents)}
    for again in range(TRIES):
        for number, rates in tried.items():
            asked = texts.questions(seed + number + 10_000 * again, max(number, jobs // 4), documents)
            rates.append(texts.pairs(asked) / run(asked, number))
    return max(tried, key=lambda number: statistics.median(tried[number]))


def at_once_of(jobs: int, documents: int) -> list[int]:
    """Jobs in flight that are worth trying: never more than there are."""
    return sorted({max(1, min(jobs, max(2, pairs // documents))) for pairs in IN_FLIGHT})


def row(
    model: str,
    documents: int,
    rounds: Sequence[Mapping[str, float]],
    at_once: Mapping[str, int],
    difference: float,
) -> dict[str, Any]:
    """The figures of one row of the table; each round's beside them."""

    def median(arm: str) -> float | None:
        return figures.short(figures.median_of(rounds, arm))

    def ratio(over: str, under: str | None) -> float | None:
        return None if under is None else figures.short(figures.paired_ratio(rounds, over, under))

    engine = figures.better(rounds, (ENGINE, "llm", "async_llm"))
    all_at_once = ENGINE if ENGINE in rounds[0] else "llm"
    coalescing_gain, engine_gain = ratio("service", "uncoalesced"), ratio(all_at_once, "one_job")
    return {
        "model": model,
        "docs_per_job": documents,
        "engine_pairs_per_s": None if engine is None else median(engine),
        "engine_gain": engine_gain,
        "service_pairs_per_s": median("service"),
        "throughput_ratio": ratio("service", engine),
        "uncoalesced_pairs_per_s": median("uncoalesced"),
        "coalescing_gain": coalescing_gain,
        "coalescing_share": figures.short(figures.divided(coalescing_gain, engine_gain)),
        "vllm_serve_pairs_per_s": median("vllm_serve"),
        "against_vllm_serve": ratio("service", "vllm_serve"),
        "bare_pairs_per_s": median("bare"),
        "against_bare": ratio("service", "bare"),
        "bare_ratio": ratio("bare", engine),
        "llm_pairs_per_s": median("llm"),
        "async_llm_pairs_per_s": median("async_llm"),
        "engine_one_job_pairs_per_s": median("one_job"),
        "better_engine": engine,
        "jobs_in_flight": dict(at_once),
        "largest_score_difference": figures.short(difference, 1),
        "rounds": [{arm: figures.short(found, 4) for arm, found in one.items()} for one in rounds],
    }


def plot(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from cli.bench import plots

    arms = {
        "raw engine": "engine_pairs_per_s",
        "service": "service_pairs_per_s",
        "vllm serve": "vllm_serve_pairs_per_s",
        "one job at a time": "uncoalesced_pairs_per_s",
    }
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        series = {
            name: [(row["docs_per_job"], row[key]) for row in own if row[key] is not None]
            for name, key in arms.items()
        }
        path = folder / f"throughput-{model}.png"
        plots.lines(path, series, title=f"{model}: pairs/s at saturation", x="documents/job", y="pairs/s")
    ratios = {
        model: [(row["docs_per_job"], row["throughput_ratio"]) for row in rows if row["model"] == model]
        for model in dict.fromkeys(row["model"] for row in rows)
    }
    plots.lines(
        folder / "throughput-ratio.png",
        ratios,
        title="service / raw engine",
        x="documents/job",
        y="ratio",
        level=1,
    )
