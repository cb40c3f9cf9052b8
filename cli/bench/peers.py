"""`podium bench peers`: the same pairs through Podium, vLLM's own server, and sentence-transformers.

Rounds are interleaved, as in `throughput`. Each is given its best number of jobs in flight, or of
a batch; sentence-transformers is a library: no server stands around it.
"""

import importlib.util
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from cli.bench import figures, machine, report
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import Room, check_engine, room, workshop
from cli.bench.throughput import Arm, best, farthest

PODIUM, SERVER, LIBRARY = "podium", "vllm serve", "sentence-transformers"

COLUMNS = (
    Column("peer", "who"),
    Column("pairs_per_s", "pairs/s", 0),
    Column("podium_over_it", "podium / it", 2),
    Column("at_once", "jobs at once"),
    Column("largest_score_difference", "largest score difference"),
    Column("note", "note"),
)


@dataclass(frozen=True)
class Options:
    model: str = "minilm"
    documents: int = 20
    pairs: int = 1_000
    repeats: int = 5
    seed: int = 1


def peers(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    check_engine()
    with (
        workshop() as folder,
        Steps(console, (options.repeats + 1) * 3) as steps,
        room(folder, steps.now) as here,
    ):
        arms, notes, differences, engine = start(here, options)
        others = machine.Others()
        at_once, rounds = measure(arms, options, steps)
        share = others.share()
    rows = rows_of(rounds, at_once, differences, notes)
    report.show(output, rows, COLUMNS)
    report.tell_of_others([share])
    made = report.made(
        "peers",
        asdict(options),
        about,
        engine=engine,
        rows=rows,
        others_cpu_share=share,
        rounds=rounds,
    )
    report.write(output, made)
    if output.plots is not None:
        plot(options, rows, output.plots)
    return 0


def start(
    here: Room, options: Options
) -> tuple[dict[str, Arm], dict[str, str], dict[str, float], dict[str, Any]]:
    """The arms, what is to be said of each peer, how far its scores are from ours, and the engine."""
    raw = here.raw("llm", options.model)  # tells the arguments that all share
    service, server = here.service(options.model), here.server(options.model, raw)
    asked = texts.questions(options.seed + 999, 3, 5)
    ours = service.scores(asked)
    arms: dict[str, Arm] = {
        PODIUM: lambda asked, at_once: service.score(asked, at_once or 32),
        SERVER: lambda asked, at_once: server.score(asked, at_once or 32),
    }
    notes, differences = {}, {SERVER: farthest(ours, server.scores(asked))}
    if importlib.util.find_spec("sentence_transformers") is None:
        notes[LIBRARY] = "not installed"
    elif here.profile(options.model).template is not None:
        notes[LIBRARY] = "does not fill this model's prompt template"
    else:
        library = here.raw(LIBRARY, options.model)
        # A batch of so many jobs: its size is in texts there.
        arms[LIBRARY] = lambda asked, at_once: library.score(asked, (at_once or 1) * options.documents)
        differences[LIBRARY] = farthest(ours, library.scores(asked))
    engine = {**raw.about, "settings": here.settings(options.model).engine.model_dump(mode="json")}
    return arms, notes, differences, engine


def measure(
    arms: Mapping[str, Arm], options: Options, steps: Steps
) -> tuple[dict[str, int], list[dict[str, float]]]:
    """The best number at once of each arm, and each round's pairs/s."""
    jobs, seed = max(1, options.pairs // options.documents), options.seed * 1_000_003
    at_once = {}
    for place, (arm, run) in enumerate(arms.items()):
        steps.now(f"warming {arm}")
        at_once[arm] = best(run, jobs, options.documents, seed + 1_000 * place)
        steps.done()
    rounds = []
    for number in range(options.repeats):
        asked = texts.questions(seed + 10_000 + number, jobs, options.documents)
        order = list(arms)
        random.Random(seed + number).shuffle(order)
        found = {}
        for arm in order:
            steps.now(f"round {number + 1} of {options.repeats}: {arm}")
            found[arm] = texts.pairs(asked) / arms[arm](asked, at_once[arm])
            steps.done()
        rounds.append(found)
    return at_once, rounds


def rows_of(
    rounds: Sequence[Mapping[str, float]],
    at_once: Mapping[str, int],
    differences: Mapping[str, float],
    notes: Mapping[str, str],
) -> list[dict[str, Any]]:
    return [
        {
            "peer": peer,
            "pairs_per_s": figures.short(figures.median_of(rounds, peer)),
            "podium_over_it": figures.short(figures.paired_ratio(rounds, PODIUM, peer)),
            "at_once": at_once.get(peer),
            "largest_score_difference": figures.short(differences.get(peer), 1),
            "note": notes.get(peer, ""),
        }
        for peer in (PODIUM, SERVER, LIBRARY)
    ]


def plot(options: Options, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from cli.bench import plots

    groups = {row["peer"]: {"pairs/s": row["pairs_per_s"]} for row in rows if row["pairs_per_s"] is not None}
    title = f"{options.model}, jobs of {options.documents} documents"
    plots.bars(folder / "peers.png", groups, title=title, x="", y="pairs/s")
