"""What the benches ask: queries and documents of plain words, no two alike, the same for the same seed."""

import random
from collections.abc import Sequence

from worker.profiles import ModelProfile

WORDS = (
    "lighthouse",
    "ship",
    "coast",
    "night",
    "bread",
    "glacier",
    "orchestra",
    "river",
    "stone",
    "lamp",
    "old",
)

Question = tuple[str, list[str]]
"""A query and its documents: the work of one job."""

SHORT = (15, 40)
"""Words of a document, at least and at most, where nothing else is said."""


def questions(seed: int, jobs: int, documents: int, words: tuple[int, int] = SHORT) -> list[Question]:
    """`jobs` questions of `documents` documents each. No text is another's beginning, so no cache helps.

    The marks at the front of each text are what is unique: a prefix cache looks from the front.
    """
    chance = random.Random(seed)
    marks = _marks(chance, jobs * (documents + 1))
    made = []
    for _ in range(jobs):
        query = f"{marks.pop()} who keeps the {' '.join(chance.choices(WORDS, k=6))}?"
        made.append((query, [document(chance, marks.pop(), words) for _ in range(documents)]))
    return made


def document(chance: random.Random, mark: str, words: tuple[int, int]) -> str:
    least, most = words
    return " ".join([mark, *chance.choices(WORDS, k=chance.randint(least, most) - 1)])


def pairs(asked: Sequence[Question]) -> int:
    return sum(len(documents) for _, documents in asked)


def _marks(chance: random.Random, count: int) -> list[str]:
    """Words of letters alone, as a document's are, none twice."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8))] = None
    return list(found)


def texts_of(profile: ModelProfile, asked: Question) -> list[str]:
    """What an engine reads of a job, as texts: a bi-encoder the query first; else a rendered prompt each."""
    query, documents = asked
    if profile.kind == "bi-encoder":
        return [query, *documents]
    head, tail = rendered(profile, query)
    return [f"{head}{document}{tail}" for document in documents]


def rendered(profile: ModelProfile, query: str) -> tuple[str, str]:
    """What the profile's template puts before a document, query included, and after it."""
    template = profile.template
    if template is None:
        return query, ""
    head = template.before_document.replace("{instruction}", profile.instruction or "", 1)
    before, _, after = head.rpartition("{query}")
    return f"{template.prefix}{before}{query}{after}", template.suffix
