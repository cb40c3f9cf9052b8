"""Scores and prompts against the references: the model cards' recipes, computed with transformers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, Qwen3ForCausalLM

from jobs.errors import QueryTooLong
from jobs.model import Document, DocumentStatus, Work
from tests.engines.conftest import Loaded
from tests.engines.test_conformance import outputs
from worker import prompts
from worker.layouts import layout_of

QUERY = "What is the capital of 中国?"
DOCUMENTS = [
    "The capital of China is Beijing.",
    "",
    " leading space and trailing newline\n",
    "\n\n",
    "    indented = code  # with a comment\n\treturn None\r\n",
    "Gravity is a force — “quoted”, naïve, Å, 🚀👩‍🚀, مرحبا, नमस्ते, 北京是首都。",
    "<Document>: a text that speaks of {query} and <Instruct>",
    "word " * 3_000,
    *(f"Fact {n}: " + "the river flows past the old town " * n for n in range(12)),
]
INSTRUCTION = "Given a question, retrieve the passage that answers it"
PIECES = (
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    ">",
    ":",
    "<Document>:",
    "<Query>",
    "a",
    "Word",
    "7",
    ",",
    "'s",
    "\u0301",
    "é",
    "京",
)
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))
"""Also such as stand where a prompt is divided."""


def build(loaded: Loaded, max_tokens: int | None = None) -> prompts.Prompts:
    work = Work(query=QUERY, documents=tuple(Document(text=t) for t in DOCUMENTS), instruction=INSTRUCTION)
    engine = loaded.engine
    return prompts.build(work, loaded.profile, engine.tokenizer, max_tokens or engine.info.max_tokens)


def reference_ids(tokenizer: Any, document: str, max_tokens: int) -> list[int]:
    """The recipe of Qwen3-Reranker's model card."""
    prefix = tokenizer.encode(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
        'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
        add_special_tokens=False,
    )
    suffix = tokenizer.encode(
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False
    )
    pair = f"<Instruct>: {INSTRUCTION}\n<Query>: {QUERY}\n<Document>: {document}"
    body = tokenizer(
        [pair], padding=False, truncation="longest_first", max_length=max_tokens - len(prefix) - len(suffix)
    )["input_ids"][0]
    return [*prefix, *body, *suffix]


@pytest.mark.parametrize("max_tokens", [8_192, 512])
def test_qwen3_token_ids_equal_the_model_cards_id_by_id(tiny: Loaded, max_tokens: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder)
    built = build(tiny, max_tokens)
    for document, ours in zip(DOCUMENTS, built.sequences, strict=True):
        assert list(ours.ids) == reference_ids(tokenizer, document, max_tokens), document[:60]
    cut = [reading.status is DocumentStatus.TRUNCATED for reading in built.readings]
    assert cut == [len(ids) == max_tokens and document == DOCUMENTS[7] for ids, document in
                   zip(built.sequences, DOCUMENTS, strict=True)]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, TEXTS.filter(bool))
def test_what_all_prompts_share_is_tokenized_once_and_the_ids_are_the_same(
    tiny: Loaded, documents: list[str], query: str, instruction: str
) -> None:
    template, tokenizer = tiny.profile.template, tiny.engine.tokenizer
    assert template is not None
    assert tokenizer.divides("\n<Document>:", " ")
    layout = layout_of(tiny.profile, tokenizer, query, instruction)
    prefix, suffix = tokenizer.encode_control(template.prefix), tokenizer.encode_control(template.suffix)
    for document, ours in zip(documents, layout.encode(documents), strict=True):
        whole = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        (body,) = tokenizer.encode_batch([whole], special=False)
        assert list(ours.ids) == [*prefix, *body, *suffix]


def test_qwen3_scores_equal_the_model_cards_to_1e_5(tiny: Loaded) -> None:
    built = build(tiny)
    model = Qwen3ForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32).eval()
    expected = []
    with torch.no_grad():
        for prompt in built.sequences:
            logits = model(torch.tensor([prompt.ids])).logits[0, -1]
            no_yes = torch.stack([logits[2152], logits[9693]])
            expected.append(torch.log_softmax(no_yes, dim=0)[1].exp().item())
    ours = [tiny.profile.relevance(None, output) for output in outputs(tiny.engine, built.sequences)]
    assert ours == pytest.approx(expected, abs=1e-5)
    assert torch.tensor(expected).std() > 1e-2, "scores that are all alike would show nothing"


def test_minilm_scores_equal_mean_pooling_and_cosine_to_1e_5(minilm: Loaded) -> None:
    built = build(minilm)
    model = AutoModel.from_pretrained(minilm.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        vectors = [model(torch.tensor([p.ids])).last_hidden_state[0].mean(dim=0) for p in built.sequences]
    expected = [torch.cosine_similarity(vectors[0], vector, dim=0).item() for vector in vectors[1:]]
    query, *documents = outputs(minilm.engine, built.sequences)
    ours = [minilm.profile.relevance(query, output) for output in documents]
    assert ours == pytest.approx(expected, abs=1e-5)


def test_minilm_token_ids_equal_the_tokenizers_own(minilm: Loaded) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm.folder)
    built = build(minilm)
    for document, ours in zip(DOCUMENTS, built.sequences[1:], strict=True):
        assert ours.ids == tokenizer(document, truncation=True, max_length=256)["input_ids"], document[:60]


def test_a_text_that_looks_like_a_control_token_stays_text(tiny: Loaded, minilm: Loaded) -> None:
    for loaded, control in ((tiny, "<|im_end|>"), (minilm, "[SEP]")):
        tokenizer = loaded.engine.tokenizer
        (as_control,) = tokenizer.encode_control(control)
        (as_text,) = tokenizer.encode_batch([f"an {control} in a text"], special=False)
        assert as_control not in as_text


def test_a_query_that_fills_the_window_is_an_error(tiny: Loaded) -> None:
    work = Work(query="word " * 40_000, documents=(Document(text="d"),))
    with pytest.raises(QueryTooLong):
        prompts.build(work, tiny.profile, tiny.engine.tokenizer, tiny.engine.info.max_tokens)
