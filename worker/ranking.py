"""Step 8: from the engine's outputs to scores, and from scores to documents by relevance."""

import math
from collections.abc import Sequence
from itertools import islice

from jobs.errors import ScoringFailed
from jobs.model import Document, DocumentStatus, Failure, RankedDocument, Work
from worker.engines.base import Output, Prompt
from worker.profiles import ModelProfile
from worker.prompts import Prompts
from worker.readings import Reading


def scores_of(sequences: Sequence[Prompt], outputs: Sequence[Output], profile: ModelProfile) -> list[float]:
    """The score of each pair, NaN where there is none. A bi-encoder's first sequence is the query."""
    if len(outputs) != len(sequences):
        raise ScoringFailed(f"{len(sequences)} sequences, but {len(outputs)} outputs of the engine")
    apart = profile.kind == "bi-encoder" and len(outputs) > 0
    query, pairs = (outputs[0], outputs[1:]) if apart else (None, outputs)
    return [profile.relevance(query, pair) for pair in pairs]


def rank(
    work: Work, built: Prompts, scores: Sequence[float]
) -> tuple[tuple[RankedDocument, ...], tuple[str, ...]]:
    """The documents by score, highest first, ties in the order of the request; then what has no score.

    `scores`: one for each of `built.pairs`. A document that was read in windows has the score of its best
    one, the first among equals. With them warnings: `top_n` must not hide that a document has no score.
    """
    rest = iter(scores)
    ranked = [
        _entry(index, work, reading, list(islice(rest, len(reading.prompts))))
        for index, reading in enumerate(built.readings)
    ]
    ranked.sort(key=lambda r: -math.inf if r.relevance_score is None else r.relevance_score, reverse=True)
    failed = [entry.index for entry in ranked if entry.relevance_score is None]
    named = ", ".join(map(str, failed[:20])) + (", …" if len(failed) > 20 else "")
    warnings = (f"{len(failed)} of {len(ranked)} documents have no score: {named}",) if failed else ()
    return tuple(ranked[: work.top_n]), warnings


def _entry(index: int, work: Work, reading: Reading, scores: Sequence[float]) -> RankedDocument:
    """One document; where it is wanted with its text, as that was read."""
    document = work.documents[index]
    kept = Document(text=reading.text, metadata=document.metadata) if work.return_documents else None
    unread = reading.unread
    if unread is None and not all(map(math.isfinite, scores)):
        unread = Failure(code=ScoringFailed.code, message="the engine's output for it is not a number")
    best = None if unread is not None else max(range(len(scores)), key=lambda place: scores[place])
    return RankedDocument(
        index=index,
        relevance_score=None if best is None else scores[best],
        status=reading.status if unread is None else DocumentStatus.FAILED,
        code=None if unread is None else unread.code,
        message=None if unread is None else unread.message,
        tokens=reading.tokens,
        window=reading.windows[best] if reading.windows and best is not None else None,
        windows=len(reading.windows) or None,
        cleaned=reading.cleaned if work.clean else None,
        id=document.id,
        document=kept,
    )
