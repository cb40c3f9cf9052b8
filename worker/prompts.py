"""Step 5: from a job's texts to prompts: what the engine reads for each document.

Only a document is ever cut or divided. An engine's own truncation would cut the rendered prompt, and with it
the suffix from which the score is read. A document that can't be read gets a reason, and costs no tokens.
"""

from dataclasses import dataclass
from itertools import chain

from jobs.errors import InvalidRequest, QueryTooLong
from jobs.model import CleanStep, Work
from worker.clean import clean
from worker.engines.base import Prompt, Tokenizer
from worker.layouts import Layout, layout_of
from worker.profiles import ModelProfile
from worker.readings import Reader, Reading, has_nothing_to_read, unreadable

NO_TEXT = "it holds control characters or markup only"


@dataclass(frozen=True)
class Prompts:
    """`readings[i]` belongs to the job's document i. `query` is its own prompt for a bi-encoder only."""

    readings: list[Reading]
    query: Prompt | None = None
    instruction: str | None = None
    query_cleaned: tuple[CleanStep, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[Prompt]:
        """One for each document that can be read, or for each of its windows, side by side."""
        return list(chain.from_iterable(reading.prompts for reading in self.readings))

    @property
    def sequences(self) -> list[Prompt]:
        """All that the job is made of: the query first, if it is read by itself, and the pairs."""
        return self.to_score(self.pairs)

    def to_score(self, pairs: list[Prompt]) -> list[Prompt]:
        """What the engine must read for some of the pairs: without any, the query isn't wanted either."""
        return pairs if self.query is None or not pairs else [self.query, *pairs]


def build(
    work: Work, profile: ModelProfile, tokenizer: Tokenizer, max_tokens: int, window_budget: int = 10**7
) -> Prompts:
    """Prompts for each document of `work`, of at most `max_tokens` each.

    `window_budget`: tokens that all windows of the job may have together. Raises `QueryTooLong` when no
    document would fit beside the instruction and the query, `InvalidRequest` when the query has no text.
    """
    if work.max_tokens_per_pair is not None:
        max_tokens = min(max_tokens, work.max_tokens_per_pair)
    query, query_cleaned = clean(work.query, work.clean)
    if has_nothing_to_read(work.query, query):
        raise InvalidRequest(f"the query has no text: {NO_TEXT}", field="query")
    instruction = None if profile.instruction is None else work.instruction or profile.instruction
    layout = layout_of(profile, tokenizer, query, instruction)
    cleaned = [clean(document.text, work.clean) for document in work.documents]
    readable = [
        not has_nothing_to_read(document.text, text)
        for document, (text, _) in zip(work.documents, cleaned, strict=True)
    ]
    texts = [text for (text, _), reads in zip(cleaned, readable, strict=True) if reads]
    whole = layout.encode(texts)
    if layout.query is not None or max(map(len, whole), default=max_tokens + 1) > max_tokens:
        _must_fit(layout, max_tokens)
    per_document = work.max_tokens_per_doc
    limit = max_tokens if per_document is None else min(max_tokens, layout.fixed + per_document)
    reader = Reader(layout, tokenizer, work.overflow, limit)
    prompts = iter(whole)
    readings: list[Reading] = []
    for (text, steps), reads in zip(cleaned, readable, strict=True):
        if reads:
            readings.append(reader.read(text, next(prompts), steps, window_budget))
            window_budget -= readings[-1].tokens if readings[-1].windows else 0
        else:
            readings.append(unreadable(text, "no_text", NO_TEXT, steps))
    ignored = f"{profile.name} takes no instruction: it was ignored"
    return Prompts(
        readings=readings,
        query=layout.query,
        instruction=instruction,
        query_cleaned=query_cleaned,
        warnings=(ignored,) if work.instruction and profile.instruction is None else (),
    )


def _must_fit(layout: Layout, max_tokens: int) -> None:
    needed = layout.fixed + 1 if layout.query is None else len(layout.query)
    if needed > max_tokens:
        raise QueryTooLong(
            f"instruction and query are {needed - max_tokens:,} tokens too long: with what the model needs "
            f"around them and one token of a document they take {needed:,}, and it reads {max_tokens:,}"
        )
