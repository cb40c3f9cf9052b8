"""Step 1 of an evaluation: what lies in files. A BEIR folder, a TREC run, and the questions made of both.

Files are read line by line; of a corpus only the documents stay that will be ranked. What can't be used
raises `BadInput`, which names the file and the line.
"""

import heapq
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.errors import PodiumError

QRELS_HEADER = ["query-id", "corpus-id", "score"]

Judgements = Mapping[str, Mapping[str, int]]
"""How relevant a document is, by query and document."""


class BadInput(PodiumError):
    """A file of the collection or the run can't be used."""

    code = "bad_input"


@dataclass(frozen=True)
class Folder:
    """Where BEIR's layout has its files."""

    root: Path
    split: str

    @property
    def corpus(self) -> Path:
        return self.root / "corpus.jsonl"

    @property
    def queries(self) -> Path:
        return self.root / "queries.jsonl"

    @property
    def qrels(self) -> Path:
        return self.root / "qrels" / f"{self.split}.tsv"


@dataclass(frozen=True)
class Candidate:
    """A document as the run names it."""

    id: str
    line: int


@dataclass(frozen=True)
class Question:
    """A query, and the run's first documents for it in the run's order."""

    id: str
    text: str
    documents: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Collection:
    """All that is asked, and by what the answers are judged. `notes`: what was left out."""

    questions: tuple[Question, ...]
    judgements: Judgements
    notes: tuple[str, ...]


def read(folder: Folder, run_file: Path, top: int, queries: int | None) -> Collection:
    """The questions of the run's queries that have judgements, at most `queries` of them.

    Raises `BadInput`.
    """
    judgements = read_qrels(folder.qrels)
    run = read_run(run_file, top)
    asked = dict(islice(((query, found) for query, found in run.items() if query in judgements), queries))
    if not asked:
        raise BadInput(
            f"no query of {run_file} has judgements in {folder.qrels}: do run, --corpus and --split belong "
            "together?"
        )
    texts = read_queries(folder.queries)
    documents = read_corpus(folder.corpus, {found.id for entries in asked.values() for found in entries})
    questions = []
    for query, entries in asked.items():
        if query not in texts:
            raise BadInput(f"{run_file} line {entries[0].line}: {folder.queries} has no query {query!r}")
        for found in entries:
            if found.id not in documents:
                raise BadInput(f"{run_file} line {found.line}: {folder.corpus} has no document {found.id!r}")
        ids = tuple(found.id for found in entries)
        questions.append(Question(query, texts[query], ids, tuple(documents[found] for found in ids)))
    notes = []
    if unjudged := sum(query not in judgements for query in run):
        notes.append(f"queries of the run without judgements, left out: {unjudged}")
    if missing := sum(query not in run for query in judgements):
        notes.append(f"queries with judgements that the run lacks, not counted: {missing}")
    return Collection(tuple(questions), {query: judgements[query] for query in asked}, tuple(notes))


def read_corpus(path: Path, wanted: set[str]) -> dict[str, str]:
    """The texts of the wanted documents: the title before the text, as BEIR's own models read it."""
    found: dict[str, str] = {}
    for number, line in _lines(path):
        entry = _object(path, number, line)
        document = _text(path, number, entry, "_id")
        if document in wanted:
            if document in found:
                raise _bad(path, number, f"document {document!r} was there before")
            title = _text(path, number, entry, "title", default="")
            found[document] = f"{title} {_text(path, number, entry, 'text')}".strip()
    return found


def read_queries(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in _lines(path):
        entry = _object(path, number, line)
        query = _text(path, number, entry, "_id")
        if query in found:
            raise _bad(path, number, f"query {query!r} was there before")
        found[query] = _text(path, number, entry, "text")
    return found


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    lines = _lines(path)
    number, header = next(lines, (1, ""))
    if header.split("\t") != QRELS_HEADER:
        raise _bad(path, number, f"the first line is a header: {' '.join(QRELS_HEADER)}, between tabs")
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != 3:
            raise _bad(path, number, f"wants 3 columns between tabs, has {len(columns)}")
        query, document, score = columns
        judged = found.setdefault(query, {})
        value = _int(path, number, "score", score)
        if judged.setdefault(document, value) != value:
            raise _bad(
                path, number, f"query {query!r} and document {document!r} were judged otherwise before"
            )
    return found


def read_run(path: Path, top: int) -> dict[str, list[Candidate]]:
    """The first `top` documents of each query: by score, ties by rank. Queries in the order of the file."""
    # A heap holds the best so far, the worst of them first: a run of a thousand documents for each of many
    # queries does not have to be in memory.
    best: dict[str, list[tuple[float, int, int, str]]] = {}
    for number, line in _lines(path):
        columns = line.split()
        if len(columns) != 6:
            raise _bad(
                path, number, f"wants 6 columns (query Q0 document rank score tag), has {len(columns)}"
            )
        query, _, document, rank, score, _ = columns
        entry = (
            _float(path, number, "score", score),
            -_int(path, number, "rank", rank),
            -number,
            document,
        )
        kept = best.setdefault(query, [])
        if len(kept) < top:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    found: dict[str, list[Candidate]] = {}
    for query, kept in best.items():
        seen: set[str] = set()
        for _, _, place, document in sorted(kept, reverse=True):
            if document in seen:
                raise _bad(path, -place, f"query {query!r} has document {document!r} twice")
            seen.add(document)
            found.setdefault(query, []).append(Candidate(document, -place))
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers, without their ends."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _bad(path, number, "is not UTF-8") from error


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _bad(path, number, 'wants an object, such as {"_id": "1", "text": "…"}')
    return found


def _text(path: Path, number: int, entry: dict[str, Any], name: str, default: str | None = None) -> str:
    found = entry.get(name, default)
    if not isinstance(found, str):
        raise _bad(path, number, f"{name} is missing" if found is None else f"{name} wants a text")
    try:
        found.encode()  # JSON can escape half a character, which can't be sent
    except UnicodeEncodeError as error:
        raise _bad(path, number, f"{name} has half a surrogate pair at character {error.start}") from error
    return found


def _float(path: Path, number: int, name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise _bad(path, number, f"{name} wants a number, has {text!r}")
    return found


def _int(path: Path, number: int, name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _bad(path, number, f"{name} wants a whole number, has {text!r}") from error


def _bad(path: Path, number: int, what: str) -> BadInput:
    return BadInput(f"{path} line {number}: {what}")
