"""`podium bench lengths`: one query with one document at a time, by the length of the prompt in tokens.

This is the table that users of Qwen3-Reranker publish. The raw engine alone, without the service: what that
adds to one job is `podium bench overhead`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import texts
from bench.texts import Question
from cli.bench import figures, machine, report
from cli.bench.arms import RawEngine
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import TINY, check_engine, room, workshop
from jobs.errors import ConfigurationError

TOKENS = (512, 1_024, 2_048, 8_192)

COLUMNS = (
    Column("tokens", "tokens", 0),
    Column("mean_ms", "mean, ms", 1),
    Column("p50_ms", "p50, ms", 1),
    Column("p95_ms", "p95, ms", 1),
    Column("queries_per_s", "queries/s", 2),
    Column("tokens_per_s", "tokens/s", 0),
    Column("peak_memory_mb", "peak memory, MB", 0),
    Column("share_of_peak", "share of peak FLOPs", 3),
)


@dataclass(frozen=True)
class Options:
    """`queries`: of each length. `dummy`: weights that are made up, for a model that is not here."""

    model: str = TINY
    tokens: tuple[int, ...] = TOKENS
    queries: int = 20
    dummy: bool = False
    seed: int = 1


def lengths(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    check_engine()
    with (
        workshop() as folder,
        Steps(console, options.queries * len(options.tokens)) as steps,
        room(folder, steps.now) as here,
    ):
        raw = here.raw("llm", options.model, {"load_format": "dummy"} if options.dummy else None)
        peak = machine.peak_tflops(about["gpus"][0]) if about["gpus"] else None
        others = machine.Others()
        longest = raw.about["max_tokens"]
        rows = [
            measure(raw, tokens, options, peak, steps)
            for tokens in sorted(options.tokens)
            if tokens <= longest
        ]
        share = others.share()
        engine = {**raw.about, "settings": here.settings(options.model).engine.model_dump(mode="json")}
    if not rows:
        raise ConfigurationError(f"{options.model} reads {longest:,} tokens: name shorter ones with --tokens")
    report.show(output, rows, COLUMNS)
    kind = "made-up weights" if options.dummy else "its weights"
    console.print(
        f"{options.model}, {kind}, {engine['dtype']}, {engine['parameters'] or 'unknown'} parameters. One "
        f"query of one document at a time. Share of peak: 2 x parameters x tokens/s / "
        f"{peak or 'an unknown'} TFLOPs.",
        style="dim",
    )
    report.tell_of_others([share])
    made = report.made("lengths", asdict(options), about, engine=engine, rows=rows, others_cpu_share=share)
    report.write(output, made)
    if output.plots is not None:
        plot(options.model, rows, output.plots)
    return 0


def measure(
    raw: RawEngine, tokens: int, options: Options, peak: float | None, steps: Steps
) -> dict[str, Any]:
    """One row: `options.queries` prompts of about so many tokens, one after another."""
    steps.now(f"{tokens:,} tokens: making the prompts")
    asked = prompts_of(raw, tokens, options.queries + 2, options.seed * 1_000_003 + tokens)
    for question in asked[options.queries :]:
        raw.score([question])  # warms
    taken = []
    for number, question in enumerate(asked[: options.queries]):
        steps.now(f"{tokens:,} tokens: query {number + 1} of {options.queries}")
        taken.append(raw.score([question]) * 1_000)
        steps.done()
    read = statistics.mean(counted(raw, asked[: options.queries]))
    gpu = machine.gpu_used_mb()
    memory = raw.memory()["peak_host_mb"] if gpu is None else gpu
    return row(tokens, read, taken, memory, raw.about["parameters"], peak)


def row(
    tokens: int,
    read: float,
    taken: Sequence[float],
    memory: float | None,
    parameters: int | None,
    peak: float | None,
) -> dict[str, Any]:
    """`read`: tokens that a query really had. `taken`: milliseconds. `peak`: TFLOPs of the hardware."""
    mean = statistics.mean(taken)
    tokens_per_s = read / mean * 1_000
    share = None if peak is None or parameters is None else 2 * parameters * tokens_per_s / (peak * 1e12)
    return {
        "tokens": tokens,
        "tokens_read": figures.short(read, 4),
        "mean_ms": figures.short(mean),
        "p50_ms": figures.short(figures.percentile(taken, 0.5)),
        "p95_ms": figures.short(figures.percentile(taken, 0.95)),
        "queries_per_s": figures.short(1_000 / mean),
        "tokens_per_s": figures.short(tokens_per_s),
        "peak_memory_mb": figures.short(memory, 4),
        "share_of_peak": figures.short(share),
        "all_ms": [figures.short(one) for one in taken],
    }


def prompts_of(raw: RawEngine, tokens: int, count: int, seed: int) -> list[Question]:
    """Questions of one document each, whose prompts are up to 1 % shorter than `tokens`, and never longer."""
    words = tokens
    for _ in range(20):
        asked = texts.questions(seed, count, 1, (words, words))
        most = max(counted(raw, asked))
        if tokens * 0.99 <= most <= tokens:
            return asked
        target = tokens * 0.995
        words = max(1, words + (round((target - most) * 0.9) or (1 if most < target else -1)))
    return asked


def counted(raw: RawEngine, asked: Sequence[Question]) -> list[int]:
    """Tokens that each question has: a bi-encoder reads the query by itself."""
    found = raw.count(asked)
    each = len(found) // len(asked)
    return [sum(found[place : place + each]) for place in range(0, len(found), each)]


def plot(model: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from cli.bench import plots

    series = {
        name: [(row["tokens"], row[key]) for row in rows]
        for name, key in (("mean", "mean_ms"), ("p95", "p95_ms"))
    }
    title = f"{model}: one query of one document"
    plots.lines(folder / f"lengths-{model}.png", series, title=title, x="tokens", y="ms", log="xy")
