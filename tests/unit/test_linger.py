"""Jobs that end while many are in hand are handed over together: `due`, and the coalescer that asks it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineDied
from jobs.model import Lane
from tests.support.scripted import Scripted, ids, prompt
from worker.coalescer import Coalescer, Dropped, HandedBack
from worker.engines.base import Prompt
from worker.engines.thread import EngineThread
from worker.plan import CROWD, LONGEST, Batch, due

NOW = 1_000.0


def batch(lane: Lane, took: float = 0, waited: float = 0) -> Batch:
    """Of a job that took so many seconds and has waited for so many, now."""
    made = Batch.of("job", lane, [Prompt([1])])
    made.came, made.ended = NOW - waited - took, NOW - waited
    return made


seconds = st.floats(0, 60)
ends = st.lists(st.builds(batch, st.sampled_from(Lane), seconds, seconds), min_size=1, max_size=20)
crowds = st.lists(st.builds(batch, st.sampled_from(Lane)), max_size=4 * CROWD)
shares = st.floats(0, 1)


@given(ends, crowds, shares)
def test_no_job_waits_longer_than_its_share_nor_than_half_a_second(
    ended: list[Batch], in_hand: list[Batch], linger: float
) -> None:
    if not due(ended, in_hand, NOW, linger):
        assert all(NOW - b.ended < linger * (b.ended - b.came) for b in ended)
        assert all(NOW - b.ended < LONGEST for b in ended)


@given(ends, crowds, shares)
def test_no_job_waits_where_its_lane_has_few(ended: list[Batch], in_hand: list[Batch], linger: float) -> None:
    few = {lane for lane in Lane if sum(b.lane is lane for b in in_hand) < CROWD}
    if any(b.lane in few for b in ended):
        assert due(ended, in_hand, NOW, linger)


@given(ends, crowds)
def test_no_job_waits_without_a_linger(ended: list[Batch], in_hand: list[Batch]) -> None:
    assert due(ended, in_hand, NOW, 0)


@given(st.sampled_from(Lane), st.floats(0.01, 1), st.floats(0.1, 60))
def test_in_a_crowd_a_job_waits(lane: Lane, linger: float, took: float) -> None:
    crowd = [batch(lane)] * CROWD
    assert not due([batch(lane, took)], crowd, NOW, linger)
    assert due([batch(lane, took), batch(lane, took, waited=LONGEST)], crowd, NOW, linger), "all go with one"


CROWDED = 3 * CROWD


class Crowd:
    """Many jobs of one sequence each, of which one ends in each step; none waits less than half a second."""

    def __init__(self, coalescer: Coalescer) -> None:
        self.coalescer = coalescer
        self.batches = [
            coalescer.submit("job", Lane.BULK, [prompt(kind)], shares=False) for kind in range(CROWDED)
        ]
        for waiting in self.batches:
            waiting.came -= 1_000

    @property
    def handed_over(self) -> int:
        return sum(waiting.done.done() for waiting in self.batches)


@contextmanager
def crowd_of(engine: Scripted, linger: float = 1.0) -> Iterator[Crowd]:
    """Not started yet. All fit into the window."""
    coalescer = Coalescer(engine, EngineThread(), window_tokens=1_000, linger=linger)
    yield Crowd(coalescer)
    coalescer.close()


def test_a_crowds_ends_are_handed_over_together_and_the_last_few_one_by_one() -> None:
    engine, seen = Scripted(), list[int]()
    with crowd_of(engine) as crowd:
        engine.happens = lambda _: seen.append(crowd.handed_over)
        crowd.coalescer.start()
        assert [b.done.result(5) for b in crowd.batches] == [ids(kind) for kind in range(CROWDED)]
    # The first to be handed over are all that have ended when fewer than a crowd are left.
    first = CROWDED - CROWD + 1
    assert seen == [0] * first + list(range(first, CROWDED))


def test_without_a_linger_each_is_handed_over_as_it_ends() -> None:
    engine, seen = Scripted(), list[int]()
    with crowd_of(engine, linger=0) as crowd:
        engine.happens = lambda _: seen.append(crowd.handed_over)
        crowd.coalescer.start()
        for waiting in crowd.batches:
            waiting.done.result(5)
    assert seen == list(range(CROWDED))


def test_an_interactive_job_does_not_wait_for_a_crowd_of_bulk() -> None:
    engine, seen = Scripted(), list[tuple[bool, int]]()
    with crowd_of(engine) as crowd:
        urgent = crowd.coalescer.submit("urgent", Lane.INTERACTIVE, [prompt(1)], shares=False)
        urgent.came -= 1_000
        engine.happens = lambda _: seen.append((urgent.done.done(), crowd.handed_over))
        crowd.coalescer.start()
        urgent.done.result(5)
        for waiting in crowd.batches:
            waiting.done.result(5)
    assert seen[:3] == [(False, 0), (True, 0), (True, 0)], "it is computed first, and handed over at once"


@pytest.mark.parametrize("how", ["handed back", "the engine dies", "dropped"])
def test_what_has_ended_is_not_lost_when_the_rest_ends_badly(how: str) -> None:
    engine = Scripted()

    def happens(step: int) -> None:
        if step != 4:
            return
        assert crowd.handed_over == 0
        if how == "handed back":
            crowd.coalescer.hand_back()
        elif how == "dropped":
            for waiting in crowd.batches[3:]:
                crowd.coalescer.drop(waiting)
        else:
            raise RuntimeError("died, on purpose")

    with crowd_of(engine) as crowd:
        engine.happens = happens
        crowd.coalescer.start()
        expected = {"handed back": HandedBack, "the engine dies": EngineDied, "dropped": Dropped}[how]
        assert [b.done.result(5) for b in crowd.batches[:3]] == [ids(kind) for kind in range(3)]
        assert all(isinstance(b.done.exception(5), expected) for b in crowd.batches[3:])
