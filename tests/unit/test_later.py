"""What is done later is done together, once, in order, and its failure stops nothing."""

import logging

import pytest
from redis.exceptions import RedisError

from jobs.later import Later
from tests.support.waiting import until


def test_items_are_done_together_and_in_order() -> None:
    done: list[list[int]] = []
    later = Later("numbers", done.append, 0.05)
    for number in range(3):
        later.add(number)
    assert done == [], "not at once"
    until("they are done", lambda: bool(done), 5)
    later.add(3)
    later.flush()
    later.flush()
    assert done == [[0, 1, 2], [3]]


def test_a_failure_is_logged_and_the_next_items_are_done(caplog: pytest.LogCaptureFixture) -> None:
    done: list[list[int]] = []

    def do(items: list[int]) -> None:
        if items == [0]:
            raise RedisError("Redis can't be reached")
        done.append(items)

    later = Later("numbers", do, 60)
    with caplog.at_level(logging.WARNING):
        for number in range(2):
            later.add(number)
            later.flush()
    assert "1 of numbers are lost: Redis can't be reached" in caplog.text
    assert done == [[1]]
