"""What a job is charged for in its queue, before anyone has counted its tokens."""

import pytest

from api.admission import estimate_tokens
from jobs.model import Document, Overflow, Work

LONG = Document(text="word " * 3_000)


def estimate(**bounds: int) -> int:
    work = Work(query="query " * 400, documents=(LONG,) * 10, overflow=Overflow.CHUNK, **bounds)
    return estimate_tokens(work)


def test_smaller_windows_are_more_of_them_each_with_the_query() -> None:
    pairs = [estimate(max_tokens_per_pair=bound) for bound in (4_000, 1_000, 700, 650, 620)]
    assert pairs == sorted(pairs)
    assert pairs[-1] > 10 * pairs[0]
    documents = [estimate(max_tokens_per_doc=bound) for bound in (512, 100, 20)]
    assert documents == sorted(documents)
    query = 600  # tokens, estimated
    assert estimate(max_tokens_per_pair=query + 20) == pytest.approx(documents[-1])


def test_windows_are_bounded_by_the_tighter_of_the_two() -> None:
    assert estimate(max_tokens_per_pair=4_000, max_tokens_per_doc=20) == estimate(max_tokens_per_doc=20)
    assert estimate(max_tokens_per_pair=620, max_tokens_per_doc=400) == estimate(max_tokens_per_pair=620)
