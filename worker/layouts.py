"""How a model reads a query and a document: three layouts, all alike to `prompts`.

A layout encodes whole prompts and cuts nothing. Whatever stands after the document is `tail` tokens long, so
that a document is cut without harm to what follows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from worker.engines.base import Prompt, Tokenizer
from worker.profiles import ModelProfile


@dataclass(frozen=True)
class Layout:
    """`encode` gives the whole prompt for each document. `query`: a bi-encoder reads it by itself, once."""

    encode: Callable[[Sequence[str]], list[Prompt]]
    tail: int
    query: Prompt | None = None

    @cached_property
    def fixed(self) -> int:
        """Tokens of each prompt that are not its document's."""
        # Of a document of one token, not of none: a template's last space and the first word are one token.
        return len(self.encode(["a"])[0]) - 1

    def cut(self, prompt: Prompt, limit: int) -> Prompt:
        """`prompt` with at most `limit` tokens: the end of its document is left out."""
        if len(prompt) <= limit:
            return prompt
        ids = [*prompt.ids[: limit - self.tail], *prompt.ids[len(prompt) - self.tail :]]
        return Prompt(ids, prompt.second_from)


def layout_of(profile: ModelProfile, tokenizer: Tokenizer, query: str, instruction: str | None) -> Layout:
    """The layout of `profile`'s model, for one query."""
    if profile.kind == "bi-encoder":
        return _bi_encoder(tokenizer, query)
    if profile.template is None:
        return _pair(tokenizer, query)
    return _template(profile, tokenizer, query, instruction or "")


def _template(profile: ModelProfile, tokenizer: Tokenizer, query: str, instruction: str) -> Layout:
    """Qwen3-Reranker: the three pieces of the model card's recipe, each tokenized by itself. What stands
    before every document in the middle one is tokenized once for all that are encoded together.
    """
    assert profile.template is not None
    prefix = tokenizer.encode_control(profile.template.prefix)
    suffix = tokenizer.encode_control(profile.template.suffix)
    # Plain replacement: braces in a caller's text mean nothing.
    head = profile.template.before_document.replace("{instruction}", instruction, 1)
    before, _, after = head.rpartition("{query}")
    head = before + query + after
    # A space and the word after it are one token: the head's last space goes with the document. All before it
    # is tokenized once, where it may be divided there.
    fixed = profile.template.before_document.rpartition("}")[2]
    divided = fixed.endswith(" ") and tokenizer.divides(fixed[:-1], " ")
    shared, rest = (head[:-1], " ") if divided else ("", head)

    def encode(documents: Sequence[str]) -> list[Prompt]:
        texts = [shared, *(rest + document for document in documents)]
        first, *bodies = tokenizer.encode_batch(texts, special=False)
        return [Prompt([*prefix, *first, *body, *suffix]) for body in bodies]

    return Layout(encode, tail=len(suffix))


def _pair(tokenizer: Tokenizer, query: str) -> Layout:
    """Cross-encoders of the BERT kind: as their tokenizer encodes a pair."""
    return Layout(lambda documents: tokenizer.encode_pairs(query, documents), tokenizer.tail(pair=True))


def _bi_encoder(tokenizer: Tokenizer, query: str) -> Layout:
    def encode(texts: Sequence[str]) -> list[Prompt]:
        return [Prompt(ids) for ids in tokenizer.encode_batch(texts, special=True)]

    return Layout(encode, tokenizer.tail(pair=False), query=encode([query])[0])
