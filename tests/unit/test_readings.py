"""What becomes of documents that are long, empty, or hold no text: with the fake engine's words as tokens."""

import pytest

from jobs.errors import InvalidRequest
from jobs.model import CleanStep, Document, DocumentStatus, Overflow, RankedDocument, Work
from jobs.settings import load
from worker import profiles, prompts
from worker.engines.base import Output
from worker.engines.fake import WordTokenizer
from worker.profiles import ModelProfile
from worker.ranking import rank, scores_of
from worker.readings import Reading

PROFILES = load({}).models_dir
MINILM = profiles.load("minilm", PROFILES)
QWEN = profiles.load("qwen3-reranker-0.6b", PROFILES)
BGE = profiles.load("bge-reranker-v2-m3", PROFILES)
EVERY = pytest.mark.parametrize("profile", [MINILM, QWEN, BGE], ids=lambda p: p.name)
LONG = " ".join(f"word{n}." for n in range(300))


def read(profile: ModelProfile, *documents: str, limit: int = 120, **asked: object) -> list[Reading]:
    texts = tuple(Document(text=text) for text in documents)
    work = Work.model_validate({"query": "a query", "documents": texts, **asked})
    return prompts.build(work, profile, WordTokenizer(), limit).readings


@EVERY
def test_truncate_reads_the_beginning(profile: ModelProfile) -> None:
    long, short = read(profile, LONG, "short")
    assert (long.status, short.status) == (DocumentStatus.TRUNCATED, DocumentStatus.OK)
    assert long.tokens == 120


@EVERY
def test_error_gives_no_score_and_says_by_how_many_tokens(profile: ModelProfile) -> None:
    long, short = read(profile, LONG, "short", overflow=Overflow.ERROR)
    assert (long.status, long.prompts, short.status) == (DocumentStatus.FAILED, (), DocumentStatus.OK)
    assert long.unread is not None
    assert long.unread.code == "document_too_long"
    assert "has 300 tokens" in long.unread.message or "has 299 tokens" in long.unread.message
    room = 120 - read(profile, "one")[0].tokens + 1
    assert f"more than the {room:,} that fit" in long.unread.message or profile is not QWEN


@EVERY
def test_chunk_reads_it_all_in_windows_that_fit(profile: ModelProfile) -> None:
    long, short = read(profile, LONG, "short", overflow=Overflow.CHUNK)
    assert (long.status, short.status) == (DocumentStatus.CHUNKED, DocumentStatus.OK)
    assert len(long.prompts) == len(long.windows) > 1
    assert max(map(len, long.prompts)) <= 120
    assert (long.windows[0].start, long.windows[-1].end) == (0, len(LONG))


@EVERY
def test_max_tokens_per_doc_is_of_the_document_alone(profile: ModelProfile) -> None:
    (whole,) = read(profile, "one")
    (cut,) = read(profile, "one two three four five", max_tokens_per_doc=3)
    assert cut.status is DocumentStatus.TRUNCATED
    assert cut.tokens == whole.tokens + 2
    assert read(profile, "one two three", max_tokens_per_doc=3)[0].status is DocumentStatus.OK


def test_a_document_of_thousands_of_windows_is_refused() -> None:
    (reading,) = read(MINILM, LONG * 20, overflow=Overflow.CHUNK, max_tokens_per_doc=2)
    assert reading.unread is not None
    assert "needs more than 1,000 windows of 2 tokens" in reading.unread.message


def test_the_windows_of_one_job_have_a_budget_of_tokens_so_that_one_job_can_not_fill_a_worker() -> None:
    query = "word " * 60
    texts = tuple(Document(text=LONG) for _ in range(4))
    work = Work(query=query, documents=texts, overflow=Overflow.CHUNK, max_tokens_per_doc=20)
    readings = prompts.build(work, QWEN, WordTokenizer(), 500, window_budget=5_000).readings
    assert [reading.unread is None for reading in readings] == [True, True, False, False]
    assert sum(reading.tokens for reading in readings) <= 5_000
    assert readings[2].unread is not None
    assert "left to the windows of this job" in readings[2].unread.message


@pytest.mark.parametrize(("query", "steps"), [("\x00\x01", ()), ("<br>", tuple(CleanStep))])
def test_a_query_without_text_is_an_error(query: str, steps: tuple[CleanStep, ...]) -> None:
    work = Work(query=query, documents=(Document(text="d"),), clean=steps)
    with pytest.raises(InvalidRequest, match="the query has no text"):
        prompts.build(work, MINILM, WordTokenizer(), 100)


def test_a_document_without_a_score_is_told_also_where_top_n_leaves_it_out() -> None:
    work = Work(query="q", documents=(Document(text="\x00"), Document(text="fine")), top_n=1)
    built = prompts.build(work, BGE, WordTokenizer(), 200)
    ranked, warnings = rank(work, built, scores_of(built.sequences, [[1.0]], BGE))
    assert [entry.index for entry in ranked] == [1]
    assert warnings == ("1 of 2 documents have no score: 0",)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t \r\n", "\u200b", "a\x00"])
def test_empty_and_white_documents_are_read_as_the_reference_reads_them(text: str) -> None:
    assert read(QWEN, text)[0].status is DocumentStatus.OK


@pytest.mark.parametrize("text", ["\x00", "\x01\x02\x03", " \x00\n", "\x1b\x7f\x9f", "\x1c\x1d"])
def test_a_document_of_control_characters_has_nothing_to_score(text: str) -> None:
    (reading,) = read(QWEN, text)
    assert reading.unread is not None
    assert (reading.unread.code, reading.tokens) == ("no_text", 0)


def test_a_document_that_cleaning_empties_has_nothing_to_score() -> None:
    emptied, white = read(QWEN, "<p><br></p>", "  ", clean=tuple(CleanStep))
    assert emptied.unread is not None
    assert emptied.unread.code == "no_text"
    assert white.status is DocumentStatus.OK


def test_cleaning_is_told_for_each_document_and_for_the_query() -> None:
    work = Work(
        query="a  query",
        documents=(Document(text="<p>caf\u00c3\u00a9 &amp; bar</p>"), Document(text="plain")),
        clean=tuple(CleanStep),
    )
    built = prompts.build(work, MINILM, WordTokenizer(), 100)
    assert [reading.text for reading in built.readings] == ["café & bar", "plain"]
    assert CleanStep.HTML in built.readings[0].cleaned
    assert CleanStep.MOJIBAKE in built.readings[0].cleaned
    assert built.readings[1].cleaned == ()
    assert built.query_cleaned == (CleanStep.WHITESPACE,)


def ranked_windows(*outputs: Output) -> tuple[RankedDocument, ...]:
    """A document in two windows and a short one, with the outputs that an engine gave for the three."""
    work = Work(query="q", documents=(Document(text=LONG), Document(text="short")), overflow=Overflow.CHUNK)
    built = prompts.build(work, BGE, WordTokenizer(), 200)
    return rank(work, built, scores_of(built.sequences, outputs, BGE))[0]


def test_the_best_window_is_the_documents_score() -> None:
    first, second = ranked_windows([-1.0], [2.0], [1.0])
    assert (first.index, first.windows, second.index) == (0, 2, 1)
    assert first.window is not None
    assert 0 < first.window.start < first.window.end == len(LONG)
    assert first.relevance_score == BGE.relevance(None, [2.0])


def test_a_window_without_a_number_fails_its_document_alone() -> None:
    first, second = ranked_windows([2.0], [float("nan")], [1.0])
    assert (first.index, first.status) == (1, DocumentStatus.OK)
    assert (second.index, second.code, second.relevance_score) == (0, "scoring_failed", None)


def test_a_raw_score_is_the_logit_itself_and_a_softmax_is_over_both() -> None:
    raw, softmax = (BGE.model_copy(update={"score": score}) for score in ("raw", "softmax"))
    assert raw.relevance(None, [3.5]) == 3.5
    assert (raw.score_kind, BGE.score_kind, MINILM.score_kind) == ("logit", "probability", "cosine")
    assert softmax.relevance(None, [1.0, 3.0]) == pytest.approx(softmax.relevance(None, [2.0]))
    assert BGE.relevance(None, [-800.0]) == 0.0
    assert BGE.relevance(None, [800.0]) == 1.0
