"""What an engine is to Podium: a machine that is given token sequences and stepped.

One thread owns an engine and calls it; engines need no locks. An engine batches continuously: what `add` is
given between two steps goes along with what is still inside.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

Output = Sequence[float]
"""What the engine computes for one sequence: an embedding, or the classifier's logits."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sequence. `second_from`: where the second text begins, if the model has token types.

    `digest`: 16 bytes, equal for what an engine reads alike. It is made here, off the engine's thread.
    """

    ids: Sequence[int]
    second_from: int | None = None
    digest: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        second = b"" if self.second_from is None else b"%d" % self.second_from
        digest = blake2b(array("I", self.ids), digest_size=16, salt=second).digest()
        object.__setattr__(self, "digest", digest)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class EngineInfo:
    """What an engine says of itself and of the model that it has loaded, for provenance."""

    name: str
    version: str
    dtype: str
    max_tokens: int
    step_tokens: int
    """What one step carries at most, of all sequences together."""
    source: str = ""
    revision: str = ""
    batch_invariant: bool = False
    on_cpu: bool = False
    """It computes on the cores that all else here needs too."""


class Tokenizer(Protocol):
    """Thread-safe. Nothing is ever cut or padded; text that looks like a control token is plain text."""

    def encode_batch(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text. `special`: with the sequence's own begin and end tokens."""
        ...

    def divides(self, before: str, after: str) -> bool:
        """Whether a text with `before` and then `after` in it may be tokenized in two, divided between them,
        whatever else it holds.
        """
        ...

    def encode_pairs(self, query: str, documents: Sequence[str]) -> list[Prompt]:
        """The query with each document, in the form that the model's tokenizer gives to a pair."""
        ...

    def tail(self, *, pair: bool) -> int:
        """How many special tokens stand after the last text of a sequence, or of a pair."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of `text` lies in it, in characters."""
        ...

    def encode_control(self, text: str) -> list[int]:
        """Token ids of a template's piece, in which control tokens are control tokens."""
        ...


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def alive(self) -> bool:
        """False once the engine has ended, also while nobody steps it. True says nothing for sure."""
        ...

    def add(self, request_id: str, prompt: Prompt, *, urgent: bool = False) -> None:
        """Hands over one sequence of at most `info.max_tokens` ids. `urgent` ones are computed first."""
        ...

    def step(self) -> list[tuple[str, Output]]:
        """Computes one batch; what finished in it. Any exception means that the engine is dead."""
        ...

    def abort(self, request_ids: Sequence[str]) -> None:
        """Forgets sequences that nobody waits for any more."""
        ...

    def statistics(self) -> dict[str, float]:
        """The engine's own counters: `steps` and `tokens` since it started."""
        ...

    def close(self) -> None:
        """Ends the engine and whatever processes it started."""
        ...
