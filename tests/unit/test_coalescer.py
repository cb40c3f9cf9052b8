"""The coalescer with an engine that ends sequences in any order, while jobs come and go."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineDied
from jobs.model import Lane
from tests.support.scripted import LONGEST, Scripted, ids, prompt
from tests.support.waiting import until
from worker.coalescer import Coalescer, Dropped, HandedBack
from worker.engines.base import Prompt
from worker.engines.thread import EngineThread
from worker.plan import Batch

WINDOW = 40
ALL_HAPPENED = 13
"""The step by which every job has come, and has gone if it does."""


@dataclass(frozen=True)
class Job:
    lane: Lane
    kinds: tuple[int, ...]
    comes: int  # in which step
    goes: int | None  # in which step it is dropped
    shares: bool
    suspect: bool

    def submit(self, coalescer: Coalescer) -> Batch:
        asked = [prompt(kind) for kind in self.kinds]
        batch = coalescer.submit("job", self.lane, asked, shares=self.shares, suspect=self.suspect)
        batch.came -= 1_000
        return batch


def jobs(*, like_each_other: bool) -> st.SearchStrategy[list[Job]]:
    """Of few kinds of sequences, so that many are equal. `like_each_other`: all of them share."""
    rarely = st.sampled_from([False, False, False, True])
    job = st.builds(
        Job,
        st.sampled_from(Lane),
        st.lists(st.integers(0, 25), min_size=1, max_size=12).map(tuple),
        st.integers(1, 6),
        st.none() | st.integers(1, ALL_HAPPENED - 1),
        st.just(True) if like_each_other else st.booleans(),
        st.just(False) if like_each_other else rarely,
    )
    return st.lists(job, min_size=1, max_size=8)


seeds = st.integers(0, 2**32)
lingers = st.sampled_from([0.0, 1.0])


@dataclass
class Ran:
    engine: Scripted
    coalescer: Coalescer
    batches: list[tuple[Job, Batch]]
    most_tokens: int = 0
    in_twice: int = 0
    overtaken: int = 0
    """Bulk sequences that came in while an interactive one, of a job that is no suspect, was waiting."""


@patch.multiple("worker.plan", CROWD=2, LONGEST_LINGER=60)
def run(given_: list[Job], seed: int, linger: float = 0) -> Ran:
    """From start to end. All happens in the coalescer's thread, so that equal seeds are equal runs.

    Who lingers does so until less than two others are in hand: no clock decides.
    """
    chance, engine, busy = random.Random(seed), Scripted(), Prompt([99])
    coalescer = Coalescer(engine, EngineThread(), window_tokens=WINDOW, linger=linger)
    ran = Ran(engine, coalescer, [])

    def happens(step: int) -> None:
        ran.batches += [(job, job.submit(coalescer)) for job in given_ if job.comes == step]
        for job, batch in ran.batches:
            if job.goes == step:
                coalescer.drop(batch)

    def choose(keys: list[str]) -> list[str]:
        others = [key for key in keys if engine.inside[key] is not busy]
        ended = chance.sample(others, chance.randint(1, len(others))) if others else []
        return ended if engine.steps < ALL_HAPPENED else [*ended, *(set(keys) - set(others))]

    def watch(prompt: Prompt, urgent: bool) -> None:
        ran.in_twice += any(other.digest == prompt.digest for other in engine.inside.values())
        ran.most_tokens = max(ran.most_tokens, len(prompt) + sum(map(len, engine.inside.values())))
        ran.overtaken += not urgent and any(
            batch.next < len(batch.sequences) and not batch.alone and not batch.done.done()
            for job, batch in ran.batches
            if job.lane is Lane.INTERACTIVE
        )

    engine.happens, engine.choose, engine.watch = happens, choose, watch
    kept_busy = coalescer.submit("busy", Lane.INTERACTIVE, [busy])
    coalescer.start()
    kept_busy.done.result(20)
    for _, batch in ran.batches:
        batch.done.exception(20)
    coalescer.close()
    return ran


@given(jobs(like_each_other=False), seeds, lingers)
def test_every_job_gets_exactly_its_outputs_in_order_and_nothing_is_lost(
    given_: list[Job], seed: int, linger: float
) -> None:
    ran = run(given_, seed, linger)
    assert len(ran.batches) == len(given_)
    for job, batch in ran.batches:
        if job.goes is None or batch.done.exception() is None:
            assert batch.done.result() == ids(*job.kinds)
        else:
            assert isinstance(batch.done.exception(), Dropped)
    assert ran.engine.inside == {}
    sequences = sum(len(job.kinds) for job in given_)
    assert ran.engine.steps <= ALL_HAPPENED + sequences, "each step ends something until all is done"


@given(jobs(like_each_other=False), seeds)
def test_the_tokens_in_the_engine_never_exceed_the_window(given_: list[Job], seed: int) -> None:
    assert run(given_, seed).most_tokens <= WINDOW


@given(jobs(like_each_other=True), seeds)
def test_no_sequence_is_in_the_engine_twice_at_one_time(given_: list[Job], seed: int) -> None:
    """Stronger than that none enters beside one of its own lane or above: it takes the place of one below."""
    assert run(given_, seed).in_twice == 0


@given(jobs(like_each_other=True), seeds)
def test_no_bulk_sequence_comes_in_while_an_interactive_one_waits(given_: list[Job], seed: int) -> None:
    assert run(given_, seed).overtaken == 0


@given(jobs(like_each_other=True), seeds, lingers)
def test_what_is_shared_is_what_the_engine_did_not_end(given_: list[Job], seed: int, linger: float) -> None:
    ran = run([replace(job, goes=None) for job in given_], seed, linger)
    ended = len(ran.engine.given) - ran.engine.aborted - 1
    assert sum(len(job.kinds) for job in given_) - ended == ran.coalescer.shared
    assert sum(batch.shared for _, batch in ran.batches) == ran.coalescer.shared


@contextmanager
def coalescer_of(engine: Scripted, *, coalesce: bool = True) -> Iterator[Coalescer]:
    """Not started yet, so that a test can choose what is inside at the first step."""
    coalescer = Coalescer(engine, EngineThread(), window_tokens=WINDOW, coalesce=coalesce)
    yield coalescer
    coalescer.close()


def submit(
    coalescer: Coalescer, lane: Lane, *kinds: int, shares: bool = True, suspect: bool = False
) -> Batch:
    asked = [prompt(kind) for kind in kinds]
    return coalescer.submit("job", lane, asked, shares=shares, suspect=suspect)


@pytest.mark.parametrize("lane", Lane)
def test_a_long_sequence_comes_in_although_short_ones_never_stop_coming(lane: Lane) -> None:
    """Whoever came after it, in its lane or below, does not take the room that it waits for."""
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        short = [submit(coalescer, Lane.BULK, *range(100, 140), shares=False) for _ in range(2)]

        def happens(step: int) -> None:
            if step == 1:
                long.append(submit(coalescer, lane, LONGEST - 1))
            short.append(submit(coalescer, Lane.BULK, *range(200, 205), shares=False))
            if long and long[0].done.done():
                ended_after.append(step)
                for batch in short:
                    coalescer.drop(batch)
                engine.happens = lambda _: None

        long: list[Batch] = []
        ended_after: list[int] = []
        engine.happens = happens
        coalescer.start()
        short[0].done.exception(20)
        assert long[0].done.result(20) == ids(LONGEST - 1)
    assert ended_after[0] < 40 + 2 * 40 + 40, "a window, and the two jobs before it in its lane"


@given(st.lists(st.tuples(st.sampled_from(Lane), st.integers(1, 30)), min_size=2, max_size=8))
def test_a_bulk_job_ends_soon_after_what_stands_before_it_however_much_stands_behind(
    asked: list[tuple[Lane, int]],
) -> None:
    """In steps that end one sequence each: as many as it and the bulk jobs before it have, and one window."""
    engine, ended = Scripted(), dict[int, int]()
    with coalescer_of(engine) as coalescer:
        batches = [submit(coalescer, lane, *[0] * size, shares=False) for lane, size in asked]
        for number, batch in enumerate(batches):
            batch.done.add_done_callback(lambda _, n=number: ended.update({n: engine.steps}))  # type: ignore[misc]
        coalescer.start()
        for batch in batches:
            batch.done.result(20)
    begins = max((ended[n] for n, (lane, _) in enumerate(asked) if lane is Lane.INTERACTIVE), default=0)
    before = 0
    for number, (lane, size) in enumerate(asked):
        if lane is Lane.BULK:
            before += size
            assert ended[number] - begins <= before + WINDOW


def test_equal_documents_of_one_job_are_read_once() -> None:
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        batch = submit(coalescer, Lane.BULK, 1, 2, 1, 1, 2)
        coalescer.start()
        assert batch.done.result(5) == ids(1, 2, 1, 1, 2)
    assert [kind for kind, _ in engine.given] == [1, 2]
    assert (batch.scored, batch.shared, coalescer.shared) == (5, 3, 3)


def test_another_place_of_the_second_text_is_another_sequence() -> None:
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        batch = coalescer.submit("job", Lane.BULK, [Prompt([1, 2]), Prompt([1, 2], 1), Prompt([1, 2], 0)])
        coalescer.start()
        batch.done.result(5)
    assert (len(engine.given), batch.shared) == (3, 0)


def at_step(engine: Scripted, happenings: dict[int, Callable[[], object]]) -> None:
    """Nothing ends before the last of what happens, all after it."""

    def happens(step: int) -> None:
        happenings.get(step, lambda: None)()
        engine.choose = lambda keys: keys if step > max(happenings) + 1 else []

    engine.happens = happens


@pytest.mark.parametrize("other", Lane)
def test_bulk_waits_for_an_equal_sequence_of_either_lane(other: Lane) -> None:
    engine, later = Scripted(), list[Batch]()
    with coalescer_of(engine) as coalescer:
        first = submit(coalescer, other, 1, 2)
        at_step(engine, {1: lambda: later.append(submit(coalescer, Lane.BULK, 2, 1))})
        coalescer.start()
        assert first.done.result(5) == ids(1, 2)
        assert later[0].done.result(5) == ids(2, 1)
    assert len(engine.given) == 2
    assert (first.shared, later[0].shared) == (0, 2)


def test_an_interactive_sequence_takes_the_place_of_an_equal_bulk_one_and_gives_it_its_output() -> None:
    engine, later = Scripted(), list[Batch]()
    with coalescer_of(engine) as coalescer:
        bulk = submit(coalescer, Lane.BULK, 1, 2)
        at_step(engine, {1: lambda: later.append(submit(coalescer, Lane.INTERACTIVE, 2))})
        coalescer.start()
        assert bulk.done.result(5) == ids(1, 2)
        assert later[0].done.result(5) == ids(2)
    assert engine.given == [(1, False), (2, False), (2, True)]
    assert engine.aborted == 1
    assert (bulk.shared, later[0].shared) == (1, 0)


def test_dropping_a_job_aborts_no_sequence_for_which_another_waits() -> None:
    engine, later = Scripted(), list[Batch]()
    with coalescer_of(engine) as coalescer:
        first = submit(coalescer, Lane.BULK, 1, 2)

        come = lambda: later.append(submit(coalescer, Lane.BULK, 2))  # noqa: E731
        at_step(engine, {1: come, 2: lambda: coalescer.drop(first)})
        coalescer.start()
        assert isinstance(first.done.exception(5), Dropped)
        assert later[0].done.result(5) == ids(2)
    assert engine.given == [(1, False), (2, False)]
    assert engine.aborted == 1, "that which nobody waits for"


@pytest.mark.parametrize("more", [{"shares": False}, {"suspect": True}])
def test_a_job_that_does_not_share_is_read_whole(more: dict[str, bool]) -> None:
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        first, second = submit(coalescer, Lane.BULK, 1, 1, **more), submit(coalescer, Lane.BULK, 1)
        coalescer.start()
        assert first.done.result(5) == ids(1, 1)
        assert second.done.result(5) == ids(1)
    assert (len(engine.given), coalescer.shared) == (3, 0)


@pytest.mark.parametrize(("coalesce", "jobs_of_steps"), [(True, [1, 2, 2]), (False, [1, 1, 1, 1])])
def test_the_jobs_inside_at_each_step_and_the_time_of_steps_are_counted(
    coalesce: bool, jobs_of_steps: list[int]
) -> None:
    """The second job comes in the first step; all that is inside ends in the third."""
    engine, later = Scripted(), list[Batch]()
    began = time.monotonic()
    with coalescer_of(engine, coalesce=coalesce) as coalescer:
        first = submit(coalescer, Lane.BULK, 1, 2)

        def come() -> None:
            later.append(submit(coalescer, Lane.BULK, 2, 3))
            time.sleep(0.02)

        at_step(engine, {1: come})
        assert coalescer.statistics() == {"busy": 0, "jobs": 0}
        coalescer.start()
        first.done.result(5)
        later[0].done.result(5)
    assert engine.steps == len(jobs_of_steps)
    assert coalescer.statistics()["jobs"] == sum(jobs_of_steps)
    assert 0.02 <= coalescer.statistics()["busy"] <= time.monotonic() - began


def test_without_coalescing_no_job_shares() -> None:
    engine = Scripted()
    with coalescer_of(engine, coalesce=False) as coalescer:
        batches = [submit(coalescer, Lane.BULK, 1, 1) for _ in range(2)]
        coalescer.start()
        assert [batch.done.result(5) for batch in batches] == [ids(1, 1)] * 2
    assert (len(engine.given), coalescer.shared) == (4, 0)


def test_an_engine_that_dies_charges_those_who_wait_for_a_sequence_inside() -> None:
    engine, later = Scripted(), list[Batch]()

    def die() -> None:
        raise RuntimeError("died, on purpose")

    with coalescer_of(engine) as coalescer:
        at_step(engine, {1: lambda: later.append(submit(coalescer, Lane.BULK, 1)), 3: die})
        first = submit(coalescer, Lane.BULK, 1)
        coalescer.start()
        assert isinstance(first.done.exception(5), EngineDied)
        assert isinstance(later[0].done.exception(5), EngineDied)
    assert len(later) == len(engine.given) == 1


def test_what_is_handed_back_is_taken_out_of_the_engine() -> None:
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        batch = submit(coalescer, Lane.BULK, 1, 2)
        at_step(engine, {1: coalescer.hand_back})
        coalescer.start()
        assert isinstance(batch.done.exception(5), HandedBack)
        until("the engine is empty", lambda: engine.aborted == 2, 5)


def test_of_nothing_there_is_nothing_to_wait_for() -> None:
    """A job whose scores are all known ends, whatever the engine does."""
    engine = Scripted()
    with coalescer_of(engine) as coalescer:
        coalescer.hand_back()
        assert submit(coalescer, Lane.BULK).done.result(0) == []
