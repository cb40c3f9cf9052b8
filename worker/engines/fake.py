"""An engine without a model, to cause faults on purpose and to measure Podium's own cost.

Its output is a bag of words: the cosine of query and document can be foretold. Its time is
`step_seconds` for each step plus `token_seconds` for each token: a GPU's cost curve, if you like.
"""

import re
import threading
import time
import zlib
from collections.abc import Sequence

from worker.engines.base import EngineInfo, Output, Prompt

DIMENSIONS = 512
STEP_TOKENS = 8_192
WORDS = 1_000_003
MURDER = "podium:kill-the-engine"
"""A document with this text makes the fake engine die in its step."""


class WordTokenizer:
    """A word is a token; its id is a checksum."""

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        nothing = [0] if special else []  # so that no sequence is empty
        return [[word_id(word) for word in text.lower().split()] or nothing for text in texts]

    def divides(self, before: str, after: str) -> bool:
        return before[-1:].isspace() or after[:1].isspace()

    def encode_pairs(self, query: str, documents: Sequence[str]) -> list[Prompt]:
        (head,) = self.encode_batch([query])
        return [Prompt([*head, *body]) for body in self.encode_batch(documents)]

    def tail(self, *, pair: bool) -> int:
        del pair
        return 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]

    def encode_control(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]


def word_id(word: str) -> int:
    """No other word has the id of `MURDER`."""
    return WORDS if word == MURDER else zlib.crc32(word.encode()) % WORDS


class FakeEngine:
    def __init__(
        self,
        *,
        max_tokens: int = 8_192,
        step_tokens: int = STEP_TOKENS,
        step_seconds: float = 0.0,
        token_seconds: float = 0.0,
    ) -> None:
        self.info = EngineInfo(
            "fake", "1", "float32", max_tokens, step_tokens, source="none", revision="none"
        )
        self.tokenizer = WordTokenizer()
        self._urgent: dict[str, Sequence[int]] = {}
        self._waiting: dict[str, Sequence[int]] = {}
        self._step_tokens = step_tokens
        self._step_seconds = step_seconds
        self._token_seconds = token_seconds
        self._told_to_die = threading.Event()
        self._steps = 0
        self._tokens = 0

    @property
    def alive(self) -> bool:
        return not self._told_to_die.is_set()

    def add(self, request_id: str, prompt: Prompt, *, urgent: bool = False) -> None:
        (self._urgent if urgent else self._waiting)[request_id] = prompt.ids

    def step(self) -> list[tuple[str, Output]]:
        batch: list[tuple[str, Output]] = []
        tokens = 0
        for request_id, sequence in [*self._urgent.items(), *self._waiting.items()]:
            if batch and tokens + len(sequence) > self._step_tokens:
                break
            if word_id(MURDER) in sequence or self._told_to_die.is_set():
                raise RuntimeError("the fake engine was told to die")
            tokens += len(sequence)
            batch.append((request_id, _bag_of_words(sequence)))
            self.abort([request_id])
        time.sleep(self._step_seconds + tokens * self._token_seconds)
        self._steps += 1
        self._tokens += tokens
        return batch

    def die(self) -> None:
        """Its next step raises, as an engine's does whose process was killed."""
        self._told_to_die.set()

    def abort(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            self._urgent.pop(request_id, None)
            self._waiting.pop(request_id, None)

    def statistics(self) -> dict[str, float]:
        return {"steps": self._steps, "tokens": self._tokens}

    def close(self) -> None:
        self._urgent.clear()
        self._waiting.clear()


def _bag_of_words(tokens: Sequence[int]) -> Output:
    vector = [0.0] * DIMENSIONS
    for token in tokens:
        vector[token % DIMENSIONS] = 1.0
    return vector
