"""What is tokenized once for all prompts of a job, and what is not where a tokenizer divides no texts."""

from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from jobs.settings import load
from worker import profiles
from worker.engines.vllm import FastTokenizer
from worker.layouts import layout_of

QWEN = profiles.load("qwen3-reranker-0.6b", load({}).models_dir)
ACROSS = ": a"
"""A token that begins before a document and ends in it."""


def tokenizer_of(folder: Path, *, divides: bool) -> FastTokenizer:
    """Characters, and one token of three of them; with or without a step that divides texts into words."""
    vocabulary = {chr(code): code for code in range(128)} | {": ": 128, ACROSS: 129, "<unk>": 130}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(":", " "), (": ", "a")], unk_token="<unk>"))
    if divides:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]+| "), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return FastTokenizer(folder)


@pytest.mark.parametrize("divides", [True, False])
def test_a_prompt_is_divided_only_where_its_tokenizer_divides_texts(tmp_path: Path, divides: bool) -> None:
    tokenizer = tokenizer_of(tmp_path, divides=divides)
    assert tokenizer.divides("<Document>:", " ") is divides
    whole = "<Instruct>: i\n<Query>: q\n<Document>: a document"
    (expected,) = tokenizer.encode_batch([whole], special=False)
    assert (129 in expected) is not divides, "the token across is there, where nothing prevents it"
    (prompt,) = layout_of(QWEN, tokenizer, "q", "i").encode(["a document"])
    assert QWEN.template is not None
    prefix = tokenizer.encode_control(QWEN.template.prefix)
    assert list(prompt.ids)[len(prefix) :][: len(expected)] == expected
