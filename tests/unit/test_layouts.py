"""What is tokenized once for all prompts of a job, and what is not where a tokenizer divides no texts."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from jobs.settings import load
from worker import profiles
from worker.engines.vllm import FastTokenizer
from worker.layouts import layout_of

QWEN = profiles.load("qwen3-reranker-0.6b", load({}).models_dir)
ACROSS = 129
"""A token that begins before a document and ends in it: `: X`, with a letter that is not tried."""


def tokenizer_of(folder: Path, *, divides: bool) -> "Recorder":
    """Characters, and tokens of two and three; with or without a step that divides texts into words."""
    vocabulary = {chr(code): code for code in range(128)} | {" X": 128, ": X": ACROSS, "<unk>": 130}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(" ", "X"), (":", " X")], unk_token="<unk>"))
    if divides:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]+| "), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return Recorder(folder)


class Recorder(FastTokenizer):
    def encode_batch(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        self.seen = [*texts]
        return super().encode_batch(self.seen, special=special)


@pytest.mark.parametrize("divides", [True, False])
def test_a_prompt_is_divided_only_where_its_tokenizer_divides_texts(tmp_path: Path, divides: bool) -> None:
    tokenizer = tokenizer_of(tmp_path, divides=divides)
    assert tokenizer.divides("<Document>:", " ") is divides
    head, documents = "<Instruct>: i\n<Query>: qqq\n<Document>: ", ["Xylophones", "", " b"]
    expected = tokenizer.encode_batch([head + document for document in documents], special=False)
    assert (ACROSS in expected[0]) is not divides, "the token across is there, where nothing prevents it"
    found = layout_of(QWEN, tokenizer, "qqq", "i").encode(documents)
    assert sum("qqq" in text for text in tokenizer.seen) == (1 if divides else len(documents))
    assert QWEN.template is not None
    prefix, suffix = map(tokenizer.encode_control, (QWEN.template.prefix, QWEN.template.suffix))
    assert [list(prompt.ids) for prompt in found] == [[*prefix, *body, *suffix] for body in expected]
