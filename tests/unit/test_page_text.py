"""How the page's text box becomes documents."""

import pytest

from api import examples
from api.page import join, split


def test_one_document_per_line_without_empty_ones() -> None:
    assert split("one\n\n  \ntwo\n") == ["one", "two"]


def test_longer_documents_are_separated_by_lines_of_dashes() -> None:
    assert split("a = 1\n\nb = 2\n---\n\n---\nc = 3\n") == ["a = 1\n\nb = 2", "c = 3"]


@pytest.mark.parametrize("example", examples.load(), ids=lambda e: e.title)
def test_every_example_survives_the_text_box(example: examples.Example) -> None:
    assert split(join(example.documents)) == list(example.documents)
    assert 0 <= example.best < len(example.documents)
