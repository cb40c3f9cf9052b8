"""Windows of a long document: together they cover it, each fits, they overlap, and end where a text does."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.settings import load
from worker import profiles
from worker.engines.vllm import FastTokenizer
from worker.windows import MOST, divide

PROSE = " ".join(f"This is sentence number {n}, which says little." for n in range(60))

texts = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["word", "ends.", "北京是首都。", "a", "\n", "  ", "🚀", "x" * 40]), max_size=80
    ).map(" ".join),
)


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def characters(text: str) -> list[tuple[int, int]]:
    """Three tokens for each character beyond ASCII, as a byte-level tokenizer has: spans repeat."""
    return [(n, n + 1) for n, char in enumerate(text) for _ in range(1 if char.isascii() else 3)]


@cache
def minilm() -> FastTokenizer:
    profile = profiles.load("minilm", load({}).models_dir)
    return FastTokenizer(Path(profile.locate(None)))


def word_pieces(text: str) -> list[tuple[int, int]]:
    """A real tokenizer's: a sentence's end may lie inside a token, and control characters in none."""
    return minilm().spans(text)


@given(texts, st.integers(1, 30), st.sampled_from([words, characters, word_pieces]))
def test_windows_cover_the_text_in_order_and_fit(text: str, room: int, tokens: object) -> None:
    assert callable(tokens)
    spans = tokens(text)
    windows = divide(text, spans, room)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for one, other in pairwise(windows):
        assert one.start < other.start <= one.end < other.end, "in order, without a gap"
    for window in windows:
        assert window.start < window.end or text == ""
        inside = [span for span in spans if window.start <= span[0] and span[1] <= window.end]
        assert len(inside) <= room or len(set(inside)) == 1, "one character may have more tokens than fit"


def test_windows_end_after_a_sentence_and_begin_with_one() -> None:
    windows = divide(PROSE, words(PROSE), 64)
    assert len(windows) > 5
    for window in windows:
        assert PROSE[window.start : window.end].strip().startswith("This is")
        assert PROSE[window.start : window.end].endswith(".")


def test_neighbours_share_a_sentence() -> None:
    for one, other in pairwise(divide(PROSE, words(PROSE), 64)):
        assert len(PROSE[other.start : one.end].split()) >= 7


def test_without_sentences_they_end_between_words() -> None:
    text = "word " * 500
    for window in divide(text, words(text), 40)[:-1]:
        assert text[window.start : window.end].strip().split() == ["word"] * len(
            text[window.start : window.end].split()
        )


def test_chinese_sentences_need_no_space() -> None:
    text = "北京是中国的首都。上海是一座大城市。" * 20
    for window in divide(text, characters(text), 300):
        assert text[window.start : window.end].endswith("。")


@pytest.mark.parametrize("text", [")" * 1_000_000, "x" * 1_000_000, ". " * 500_000, "\n" * 1_000_000])
def test_a_hostile_megabyte_is_divided_before_the_time_limit(text: str) -> None:
    spans = [(n, n + 1) for n in range(len(text))]
    windows = divide(text, spans, 1_200)
    assert windows[-1].end == len(text)
    assert len(divide(text, spans, 1)) == MOST + 2, "it stops: so many are not read"


def test_what_fits_is_one_window() -> None:
    assert [(w.start, w.end) for w in divide("just this", words("just this"), 2)] == [(0, 9)]
    assert [(w.start, w.end) for w in divide("", [], 2)] == [(0, 0)]
