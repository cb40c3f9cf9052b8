"""Step 3 of an evaluation: measures of a ranking before and after, as a table, as JSON, as a TREC run.

Measures are taken of places, never of scores: an evaluator that is given tied scores orders them by its own
rule, each by another.
"""

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.eval.collection import Collection, Judgements
from cli.eval.rerank import Answer
from jobs.errors import ConfigurationError

Rankings = Mapping[str, Sequence[str]]
"""Documents of each query, best first."""


@dataclass(frozen=True)
class Report:
    """Field by field what `--json` writes. `documents`: pairs of a query and a document."""

    model: str
    corpus: str
    run: str
    split: str
    top: int
    queries: int
    documents: int
    truncated: int
    failed: int
    seconds: float
    pairs_per_s: float
    before: dict[str, float]
    after: dict[str, float]
    provenance: dict[str, Any] | list[dict[str, Any]]
    warnings: list[str]


def check_installed() -> None:
    """Raises `ConfigurationError` if the measures can't be taken."""
    try:
        import ir_measures  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "podium eval takes its measures with ir-measures: run `make setup`, "
            "or `pip install 'podium[eval]'`"
        ) from error


def make(
    collection: Collection,
    answers: Mapping[str, Answer],
    seconds: float,
    *,
    model: str,
    corpus: Path,
    run: Path,
    split: str,
    top: int,
) -> Report:
    ordered = [answers[question.id] for question in collection.questions]
    documents = sum(len(answer.scores) for answer in ordered)
    provenances: list[dict[str, Any]] = []
    for answer in ordered:
        if answer.provenance not in provenances:
            provenances.append(answer.provenance)
    warnings = list(dict.fromkeys([*collection.notes, *(w for answer in ordered for w in answer.warnings)]))
    if len(provenances) > 1:
        warnings.append("results of different provenance were put together: scores may not be comparable")
    before = {question.id: question.documents for question in collection.questions}
    return Report(
        model=model,
        corpus=str(corpus),
        run=str(run),
        split=split,
        top=top,
        queries=len(ordered),
        documents=documents,
        truncated=sum(answer.truncated for answer in ordered),
        failed=sum(score is None for answer in ordered for score in answer.scores),
        seconds=round(seconds, 3),
        pairs_per_s=round(documents / seconds, 1) if seconds else 0.0,
        before=measures(collection.judgements, before, top),
        after=measures(collection.judgements, rankings(collection, answers), top),
        provenance=provenances[0] if len(provenances) == 1 else provenances,
        warnings=warnings,
    )


def rankings(collection: Collection, answers: Mapping[str, Answer]) -> Rankings:
    return {
        question.id: [question.documents[place] for place in answers[question.id].ranking()]
        for question in collection.questions
    }


def measures(judgements: Judgements, ranked: Rankings, top: int) -> dict[str, float]:
    """Means over the queries of `judgements`."""
    import ir_measures
    from ir_measures import RR, P, R, nDCG

    wanted = list(dict.fromkeys([nDCG @ 10, RR @ 10, P @ 1, R @ 10, R @ top]))
    run = {
        query: {document: float(len(documents) - place) for place, document in enumerate(documents)}
        for query, documents in ranked.items()
    }
    found = ir_measures.calc_aggregate(wanted, {query: dict(j) for query, j in judgements.items()}, run)
    return {str(measure): float(found[measure]) for measure in wanted}


def trec_run(collection: Collection, answers: Mapping[str, Answer], tag: str) -> Iterable[str]:
    """The lines of a TREC run. Scores fall strictly, also as the 32-bit floats that trec_eval reads: no
    evaluator breaks a tie otherwise than we did.
    """
    for question in collection.questions:
        answer = answers[question.id]
        last = math.inf
        for rank, place in enumerate(answer.ranking(), start=1):
            score = answer.scores[place]
            if score is None:  # behind all that have one
                last = _single(last - 1) if math.isfinite(last) else 0.0
            else:
                last = min(_single(score), _below(last))
            yield f"{question.id} Q0 {question.documents[place]} {rank} {last:.9g} {tag}\n"


def table(report: Report) -> Table:
    shown = Table(box=None, header_style="bold")
    shown.add_column("measure")
    for name in ("before", "after", "change"):
        shown.add_column(name, justify="right")
    for name, before in report.before.items():
        after = report.after[name]
        change = round(after - before, 3)
        style = "" if change == 0 else "green" if change > 0 else "red"
        shown.add_row(name, f"{before:.3f}", f"{after:.3f}", Text(f"{change:+.3f}", style=style))
    return shown


def summary(report: Report) -> str:
    return (
        f"{report.queries:,} queries, {report.documents:,} documents ({report.truncated:,} truncated, "
        f"{report.failed:,} without a score) in {report.seconds:,.1f} s: {report.pairs_per_s:,.1f} pairs/s"
    )


def as_json(report: Report) -> str:
    return json.dumps(vars(report), indent=2, ensure_ascii=False) + "\n"


def check_writable(*paths: Path | None) -> None:
    """Before hours of scoring, whether what comes of it could be written. Raises `ConfigurationError`."""
    for path in paths:
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK)):
            raise ConfigurationError(f"{path} can't be written: name a file in a folder that exists")


def write(path: Path, lines: Iterable[str]) -> None:
    """The file whole, or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _single(value: float) -> float:
    """The nearest 32-bit float."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _below(value: float) -> float:
    """The next 32-bit float below a 32-bit float."""
    if math.isinf(value):
        return value
    if value == 0:
        return -_next(0.0, 1)
    return _next(value, -1) if value > 0 else _next(value, 1)


def _next(value: float, step: int) -> float:
    """`step` places away from zero in the order of 32-bit floats of one sign."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return float(struct.unpack("<f", struct.pack("<I", bits + step))[0])
