"""Jobs that end while many are in hand are handed over together: `due`, and the coalescer that asks it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineDied
from jobs.model import Lane
from jobs.settings import EngineSettings, Settings
from tests.support.scripted import Scripted, ids, prompt
from worker.app import LINGER, linger
from worker.coalescer import Coalescer, Dropped, HandedBack
from worker.engines.base import EngineInfo, Prompt
from worker.engines.thread import EngineThread
from worker.plan import CROWD, Batch, due

NOW = 1_000.0


def batch(lane: Lane, took: float = 0, waited: float = 0, *, lingers: bool = True) -> Batch:
    """Of a job that took so many seconds and will have waited for so many."""
    made = Batch.of("job", lane, [Prompt([1])], lingers=lingers)
    made.came, made.ended = NOW - waited - took, NOW - waited
    return made


lanes = st.sampled_from(Lane)
CROWDS = [batch(lane) for lane in Lane for _ in range(CROWD)]


@pytest.mark.parametrize(
    ("took", "share", "longest"),
    [(1, 0.25, 0.25), (0.2, 0.5, 0.1), (1.9, 0.25, 0.475), (60, 0.25, 0.5), (600, 1, 0.5)],
)
def test_a_job_waits_for_its_share_of_what_it_took_and_half_a_second_at_most(
    took: float, share: float, longest: float
) -> None:
    for lane in Lane:
        assert not due([batch(lane, took, longest - 0.01)], CROWDS, NOW, share)
        assert due([batch(lane, took, longest + 0.01)], CROWDS, NOW, share)


@given(st.lists(st.builds(batch, lanes, st.just(60), st.floats(0, 0.4)), min_size=1, max_size=20), lanes)
def test_all_go_when_one_must(ended: list[Batch], lane: Lane) -> None:
    assert not due(ended, CROWDS, NOW, 1)
    assert due([*ended, batch(lane, 60, 0.6)], CROWDS, NOW, 1)
    assert due([*ended, batch(lane, 0, 0.1)], CROWDS, NOW, 1)
    assert due([*ended, batch(lane, 60, lingers=False)], CROWDS, NOW, 1), "a suspect"


@given(lanes, st.integers(0, CROWD - 1))
def test_no_job_waits_where_its_lane_has_few_however_many_the_other_has(lane: Lane, few: int) -> None:
    (other,) = set(Lane) - {lane}
    in_hand = [batch(lane)] * few + [batch(other)] * 3 * CROWD
    assert due([batch(lane, took=60)], in_hand, NOW, 1)
    assert not due([batch(other, took=60)], in_hand, NOW, 1)


@pytest.mark.parametrize(
    ("said", "on_cpu", "expected"), [(None, True, LINGER), (None, False, 0), (0, True, 0), (1, False, 1)]
)
def test_where_the_engine_has_cores_of_its_own_nobody_waits_unless_it_is_said(
    said: float | None, on_cpu: bool, expected: float
) -> None:
    settings = Settings(engine=EngineSettings(linger=said))
    assert linger(settings, EngineInfo("any", "1", "float32", 1, 1, on_cpu=on_cpu)) == expected


CROWDED = 3 * CROWD


class Crowd:
    """Bulk jobs of one sequence each, of which one ends in each step; each may wait for a minute."""

    def __init__(self, coalescer: Coalescer) -> None:
        self.coalescer = coalescer
        self.batches = [self.submit(Lane.BULK, kind) for kind in range(CROWDED)]

    def submit(self, lane: Lane, kind: int, *, suspect: bool = False) -> Batch:
        made = self.coalescer.submit("job", lane, [prompt(kind)], shares=False, suspect=suspect)
        made.came -= 1_000
        return made

    @property
    def handed_over(self) -> int:
        return sum(waiting.done.done() for waiting in self.batches)


@contextmanager
def crowd_of(
    engine: Scripted, linger: float = 1, window: int = 1_000, longest: float = 60
) -> Iterator[Crowd]:
    """Not started yet."""
    coalescer = Coalescer(engine, EngineThread(), window_tokens=window, linger=linger)
    with patch("worker.plan.LONGEST_LINGER", longest):
        yield Crowd(coalescer)
        coalescer.close()


@pytest.mark.parametrize("window", [1_000, 40])
def test_a_crowds_ends_are_handed_over_together_and_the_last_few_one_by_one(window: int) -> None:
    """Also where most of the crowd still waits for room in the engine."""
    engine, seen = Scripted(), list[int]()
    with crowd_of(engine, window=window) as crowd:
        engine.happens = lambda _: seen.append(crowd.handed_over)
        crowd.coalescer.start()
        assert [b.done.result(5) for b in crowd.batches] == [ids(kind) for kind in range(CROWDED)]
    together = CROWDED - CROWD + 1  # have ended when fewer than a crowd are left
    assert seen == [0] * together + list(range(together, CROWDED))


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
        urgent = crowd.submit(Lane.INTERACTIVE, 1)
        engine.happens = lambda _: seen.append((urgent.done.done(), crowd.handed_over))
        crowd.coalescer.start()
        for waiting in (urgent, *crowd.batches):
            waiting.done.result(5)
    assert seen[:3] == [(False, 0), (True, 0), (True, 0)], "it is computed first, and handed over at once"


def test_a_suspect_is_handed_over_before_the_next_one_enters() -> None:
    """A worker that is lost is taken for the next one's fault, and not for one's that has ended."""
    engine, before = Scripted(), list[bool]()
    with crowd_of(engine) as crowd:
        suspects = [crowd.submit(Lane.INTERACTIVE, kind, suspect=True) for kind in range(CROWDED)]
        engine.watch = lambda _, urgent: before.append(
            not urgent or all(b.done.done() for b in suspects if b.scored)
        )
        crowd.coalescer.start()
        for waiting in (*suspects, *crowd.batches):
            waiting.done.result(5)
    assert before == [True] * 2 * CROWDED


def test_no_job_waits_for_a_step_that_takes_longer_than_it_may_wait() -> None:
    engine, seen = Scripted(), list[int]()

    def happens(_: int) -> None:
        seen.append(crowd.handed_over)
        time.sleep(0.02)

    with crowd_of(engine, longest=0.01) as crowd:
        engine.happens = happens
        crowd.coalescer.start()
        for waiting in crowd.batches:
            waiting.done.result(5)
    assert seen == list(range(CROWDED))


@pytest.mark.parametrize("how", ["handed back", "the engine dies", "dropped"])
def test_what_has_ended_is_not_lost_when_the_rest_ends_badly(how: str) -> None:
    engine, seen = Scripted(), dict[str, int]()

    def happens(step: int) -> None:
        if step != 4:
            return
        seen["before"] = crowd.handed_over
        if how == "handed back":
            crowd.coalescer.hand_back()
            seen["with it"] = sum(ended.done.done() for ended in crowd.batches[:3])
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
    assert seen == ({"before": 0, "with it": 3} if how == "handed back" else {"before": 0})
