"""`[instruct] …` on a query's first line is its instruction; the field wins."""

import pytest

from api.admission import split_query
from jobs.errors import InvalidRequest


@pytest.mark.parametrize(
    ("query", "field", "expected"),
    [
        ("annual leave", None, ("annual leave", None)),
        ("annual leave", "field", ("annual leave", "field")),
        ("[instruct] Find the rule\nannual leave", None, ("annual leave", "Find the rule")),
        ("[instruct] Find the rule\nannual\nleave", "field", ("annual\nleave", "field")),
        ("[instruct]\nannual leave", None, ("annual leave", None)),
        ("[instruct]ions for set-up\nmore", None, ("[instruct]ions for set-up\nmore", None)),
        ("how does [instruct] work?", None, ("how does [instruct] work?", None)),
    ],
)
def test_query_and_instruction_are_told_apart(
    query: str, field: str | None, expected: tuple[str, str | None]
) -> None:
    assert split_query(query, field) == expected


@pytest.mark.parametrize("query", ["[instruct] Find the rule", "[instruct] Find the rule\n  "])
def test_an_instruction_without_a_query_is_an_error(query: str) -> None:
    with pytest.raises(InvalidRequest, match="the query comes on the next line"):
        split_query(query, None)
