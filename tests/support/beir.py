"""A small BEIR folder with a run whose measures, before and after the fake engine, are known by hand."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS = 5
"""Documents of each query in the run."""


@dataclass(frozen=True)
class Beir:
    corpus: Path
    run: Path
    queries: list[str]

    def arguments(self) -> list[str]:
        return [f"--corpus={self.corpus}", f"--run={self.run}"]


def make(root: Path, queries: int, texts: Mapping[str, str] | None = None) -> Beir:
    """Query `qN` asks for two words. Of its documents `qN-0` to `qN-4`, in the run in this order, `qN-2` has
    both of them, one in its title; `qN-1` and `qN-3` have one and are equal; `qN-0` and `qN-4` have none.
    Of every fourth query `qN-4` is relevant, of the others `qN-2`. `texts`: other texts for some queries.
    """
    names = [f"q{number}" for number in range(queries)]
    documents, run, judgements = [], [], ["query-id\tcorpus-id\tscore"]
    for number, name in enumerate(names):
        bodies = (
            ("", "nothing of that kind"),
            ("", f"first{number} and more"),
            (f"first{number}", f"second{number}"),
            ("", f"first{number} and more"),
            ("other things", ""),
        )
        for place, (title, text) in enumerate(bodies):
            documents.append({"_id": f"{name}-{place}", "title": title, "text": text})
            run.append(f"{name} Q0 {name}-{place} {place + 1} {DOCUMENTS - place}.5 first")
        judgements.append(f"{name}\t{name}-{4 if number % 4 == 3 else 2}\t1")
    corpus = root / "collection"
    asked = [
        {"_id": name, "text": (texts or {}).get(name, f"first{number} second{number}")}
        for number, name in enumerate(names)
    ]
    write(corpus / "corpus.jsonl", map(json.dumps, documents))
    write(corpus / "queries.jsonl", map(json.dumps, asked))
    write(corpus / "qrels" / "test.tsv", judgements)
    write(root / "first.run", run)
    return Beir(corpus, root / "first.run", names)


BEFORE = {"nDCG@10": 0.4717, "RR@10": 0.3, "P@1": 0.0, "R@10": 1.0, "R@50": 1.0}
AFTER = {"nDCG@10": 0.8467, "RR@10": 0.8, "P@1": 0.75, "R@10": 1.0, "R@50": 1.0}
"""By hand, for a multiple of four queries. Three of four find `qN-2` in place 3, then 1; one finds `qN-4`
in place 5, before and after: 1/log2(4) = 0.5, 1/log2(6) = 0.3869.
"""

RANKING = (2, 1, 3, 0, 4)
"""Places in the run, after: both words, one word (equal: as in the run), none (as in the run)."""


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ranking(run: Path) -> dict[str, list[str]]:
    """Documents of each query in the order of a run's lines; their ranks count from 1, their scores fall."""
    found: dict[str, list[str]] = {}
    last: dict[str, float] = {}
    for line in run.read_text(encoding="utf-8").splitlines():
        query, _, document, rank, score, _ = line.split()
        found.setdefault(query, []).append(document)
        assert int(rank) == len(found[query])
        assert float(score) < last.get(query, 2.0)
        last[query] = float(score)
    return found


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
