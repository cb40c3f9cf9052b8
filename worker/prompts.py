"""Step 5: from a job's texts to token ids, one sequence for each thing that the engine must read.

Only a document is ever cut. An engine's own truncation would cut the rendered prompt, and with it the suffix
from which the score is read.
"""

from dataclasses import dataclass

from jobs.errors import QueryTooLong
from jobs.model import DocumentStatus, Work
from worker.engines.base import Tokenizer
from worker.profiles import ModelProfile


@dataclass(frozen=True)
class Prompts:
    """`documents[i]` belongs to the job's document i. `query` is its own sequence for a bi-encoder only."""

    documents: list[list[int]]
    statuses: list[DocumentStatus]
    query: list[int] | None = None
    instruction: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def sequences(self) -> list[list[int]]:
        """All that the engine must read, the query first."""
        return self.documents if self.query is None else [self.query, *self.documents]


def build(work: Work, profile: ModelProfile, tokenizer: Tokenizer, max_tokens: int) -> Prompts:
    """Token ids for each document of `work`, at most `max_tokens` each.

    Raises `QueryTooLong` when no document would fit beside the instruction and the query.
    """
    if profile.template is None:
        return _bi_encoder(work, profile, tokenizer, max_tokens)
    instruction = work.instruction or profile.instruction or ""
    prefix = tokenizer.encode_control(profile.template.prefix)
    suffix = tokenizer.encode_control(profile.template.suffix)
    # Plain replacement: braces in a caller's text mean nothing.
    head = profile.template.before_document.replace("{instruction}", instruction, 1)
    before, _, after = head.rpartition("{query}")
    head = before + work.query + after
    room = max_tokens - len(prefix) - len(suffix)
    # A space and the word after it are one token: head and document are tokenized together.
    head_tokens, *bodies = tokenizer.encode_batch(
        [head, *(head + document.text for document in work.documents)], special=False
    )
    _must_fit(len(head_tokens), room)
    return Prompts(
        documents=[prefix + body[:room] + suffix for body in bodies],
        statuses=[_status(len(body), room) for body in bodies],
        instruction=instruction,
    )


def _bi_encoder(work: Work, profile: ModelProfile, tokenizer: Tokenizer, max_tokens: int) -> Prompts:
    texts = [work.query, *(document.text for document in work.documents)]
    query, *documents = tokenizer.encode_batch(texts, special=True)
    _must_fit(len(query) - 1, max_tokens)
    warnings = (f"{profile.name} takes no instruction: it was ignored",) if work.instruction else ()
    return Prompts(
        documents=[_cut(tokens, max_tokens) for tokens in documents],
        statuses=[_status(len(tokens), max_tokens) for tokens in documents],
        query=query,
        warnings=warnings,
    )


def _cut(tokens: list[int], room: int) -> list[int]:
    """The first `room` tokens, the last of which stays the sequence's end token."""
    return tokens if len(tokens) <= room else [*tokens[: room - 1], tokens[-1]]


def _status(length: int, room: int) -> DocumentStatus:
    return DocumentStatus.OK if length <= room else DocumentStatus.TRUNCATED


def _must_fit(length: int, room: int) -> None:
    if length >= room:
        raise QueryTooLong(
            f"instruction and query take {length} tokens, {length - room + 1} more than the model can read "
            "beside a document"
        )
