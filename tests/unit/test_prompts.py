"""Prompts: only a document is ever cut. The real tokenizer's turn is in tests/engines."""

import pytest

from jobs.errors import QueryTooLong
from jobs.model import Document, DocumentStatus, Work
from jobs.settings import load
from worker import profiles, prompts
from worker.engines.fake import WordTokenizer, word_id

PROFILES = load({}).models_dir
QWEN = profiles.load("qwen3-reranker-0.6b", PROFILES)
MINILM = profiles.load("minilm", PROFILES)


def work(*documents: str, query: str = "a query", instruction: str | None = None) -> Work:
    return Work(query=query, documents=tuple(Document(text=d) for d in documents), instruction=instruction)


def test_a_cut_document_keeps_the_suffix_from_which_the_score_is_read() -> None:
    assert QWEN.template is not None
    suffix = WordTokenizer().encode_control(QWEN.template.suffix)
    built = prompts.build(work("word " * 500, "short"), QWEN, WordTokenizer(), 100)
    assert [reading.tokens for reading in built.readings] == [100, pytest.approx(60, abs=30)]
    assert all(list(prompt.ids)[-len(suffix) :] == suffix for prompt in built.sequences)
    assert [r.status for r in built.readings] == [DocumentStatus.TRUNCATED, DocumentStatus.OK]


def test_the_callers_instruction_replaces_the_profiles() -> None:
    built = prompts.build(work("d", instruction="Zebra"), QWEN, WordTokenizer(), 500)
    assert built.instruction == "Zebra"
    assert word_id("zebra") in built.sequences[0].ids
    assert prompts.build(work("d"), QWEN, WordTokenizer(), 500).instruction == QWEN.instruction


def test_braces_in_a_callers_text_mean_nothing() -> None:
    built = prompts.build(
        work("{document}", query="{instruction} {query}", instruction="{query}"), QWEN, WordTokenizer(), 500
    )
    tokens = built.sequences[0].ids
    assert tokens.count(word_id("{query}")) == 2
    assert tokens.count(word_id("{instruction}")) == 1
    assert word_id("{document}") in tokens


@pytest.mark.parametrize("profile", [QWEN, MINILM], ids=lambda p: p.name)
def test_a_query_that_leaves_no_room_is_an_error(profile: profiles.ModelProfile) -> None:
    with pytest.raises(QueryTooLong, match="tokens too long"):
        prompts.build(work("d", query="word " * 200), profile, WordTokenizer(), 100)


def test_a_bi_encoder_reads_the_query_once_and_says_that_it_takes_no_instruction() -> None:
    built = prompts.build(work("one", "two", instruction="Zebra"), MINILM, WordTokenizer(), 100)
    assert len(built.sequences) == 3
    assert "takes no instruction" in built.warnings[0]


def test_the_template_hash_follows_the_template() -> None:
    assert QWEN.template is not None
    changed = QWEN.template.model_copy(update={"suffix": QWEN.template.suffix.removesuffix("\n")})
    assert changed.digest != QWEN.template.digest == QWEN.template_hash
