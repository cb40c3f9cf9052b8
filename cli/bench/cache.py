"""`podium bench cache`: the same jobs twice. The second time their scores are known."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from cli.bench import figures, machine, report
from cli.bench.arms import Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import check_engine, room, workshop
from cli.bench.throughput import farthest

COLUMNS = (
    Column("docs_per_job", "documents/job"),
    Column("first_pairs_per_s", "first run, pairs/s", 0),
    Column("second_pairs_per_s", "second run, pairs/s", 0),
    Column("cache_gain", "second / first", 1),
    Column("largest_score_difference", "largest score difference"),
)


@dataclass(frozen=True)
class Options:
    model: str = "minilm"
    documents: tuple[int, ...] = (20, 100)
    pairs: int = 2_000
    at_once: int = 16
    repeats: int = 5
    seed: int = 1


def cache(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    check_engine()
    with (
        workshop() as folder,
        Steps(console, options.repeats * len(options.documents)) as steps,
        room(folder, steps.now) as here,
    ):
        service = here.service(options.model, PODIUM_CACHE__ENABLED="true")
        others = machine.Others()
        rows = [measure(service, documents, options, steps) for documents in options.documents]
        share = others.share()
    report.show(output, rows, COLUMNS)
    report.tell_of_others([share])
    report.write(output, report.made("cache", asdict(options), about, rows=rows, others_cpu_share=share))
    if output.plots is not None:
        plot(options, rows, output.plots)
    return 0


def measure(service: Service, documents: int, options: Options, steps: Steps) -> dict[str, Any]:
    """One row: in each round new jobs, and then the same again."""
    jobs, seed = max(1, options.pairs // documents), (options.seed * 1_009 + documents) * 1_000
    rounds, differences = [], []
    for number in range(options.repeats):
        steps.now(f"jobs of {documents}, round {number + 1} of {options.repeats}")
        service.score(texts.questions(seed + 500 + number, max(1, jobs // 10), documents), options.at_once)
        asked = texts.questions(seed + number, jobs, documents)
        (first, fresh), (second, known) = (service.ranked(asked, options.at_once) for _ in range(2))
        rounds.append({"first": texts.pairs(asked) / first, "second": texts.pairs(asked) / second})
        differences.append(farthest(fresh, known))
        steps.done()
    return row(documents, rounds, differences)


def row(
    documents: int, rounds: Sequence[Mapping[str, float]], differences: Sequence[float]
) -> dict[str, Any]:
    return {
        "docs_per_job": documents,
        "first_pairs_per_s": figures.short(figures.median_of(rounds, "first")),
        "second_pairs_per_s": figures.short(figures.median_of(rounds, "second")),
        "cache_gain": figures.short(figures.paired_ratio(rounds, "second", "first")),
        "largest_score_difference": figures.short(max(differences), 1),
        "rounds": [{run: figures.short(found, 4) for run, found in one.items()} for one in rounds],
    }


def plot(options: Options, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from cli.bench import plots

    groups = {
        f"jobs of {row['docs_per_job']}": {
            "first run": row["first_pairs_per_s"],
            "second run": row["second_pairs_per_s"],
        }
        for row in rows
    }
    title = f"{options.model}: the same jobs twice"
    plots.bars(folder / "cache.png", groups, title=title, x="", y="pairs/s")
