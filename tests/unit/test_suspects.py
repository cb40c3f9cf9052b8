"""A job with which an engine died before runs alone; who was not inside then is innocent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineDied
from jobs.model import Lane
from worker.coalescer import Coalescer, HandedBack
from worker.engines.base import Prompt
from worker.engines.fake import MURDER, FakeEngine, word_id
from worker.engines.thread import EngineThread
from worker.plan import Batch, candidates


def batch(name: str, *, alone: bool = False, lane: Lane = Lane.INTERACTIVE) -> Batch:
    return Batch.of(name, lane, [Prompt([1])], alone=alone)


batches = st.lists(
    st.builds(batch, st.text(max_size=3), alone=st.booleans(), lane=st.sampled_from(Lane)), max_size=6
)


@given(batches, batches)
def test_a_suspect_shares_the_engine_with_nobody(waiting: list[Batch], running: list[Batch]) -> None:
    if any(b.alone for b in running):
        running = [next(b for b in running if b.alone)]
    together = {id(b): b for b in (*running, *candidates(waiting, running))}.values()
    assert len(together) == 1 or not any(b.alone for b in together)


@given(batches)
def test_somebody_may_always_enter_an_empty_engine(waiting: list[Batch]) -> None:
    assert bool(candidates(waiting, [])) == bool(waiting)


def test_a_suspect_whose_turn_it_is_lets_the_engine_run_empty_first() -> None:
    suspect, other = batch("suspect", alone=True), batch("other")
    assert candidates([suspect, other], [batch("inside")]) == []
    assert candidates([suspect, other], []) == [suspect]
    assert candidates([other, suspect], []) == [other]


def test_the_rest_of_a_suspect_follows_it() -> None:
    suspect = batch("suspect", alone=True)
    assert candidates([suspect, batch("other")], [suspect]) == [suspect]


def test_an_engine_that_dies_charges_only_what_was_inside() -> None:
    engine = FakeEngine(step_seconds=0.05)
    coalescer = Coalescer(engine, EngineThread(), window_tokens=8_192)
    murderer = coalescer.submit("murderer", Lane.INTERACTIVE, [Prompt([word_id(MURDER)])], suspect=True)
    innocent = coalescer.submit("innocent", Lane.INTERACTIVE, [Prompt([1, 2, 3])])
    coalescer.start()
    with pytest.raises(EngineDied):
        murderer.done.result(5)
    with pytest.raises(HandedBack):
        innocent.done.result(5)
    assert coalescer.dead.is_set()
    coalescer.close()


def test_suspects_and_others_all_come_out() -> None:
    coalescer = Coalescer(FakeEngine(), EngineThread(), window_tokens=8_192)
    coalescer.start()
    given_ = [
        coalescer.submit(
            f"job-{n}", list(Lane)[n % 2], [Prompt([n, m]) for m in range(5)], suspect=n % 3 == 0
        )
        for n in range(30)
    ]
    assert [len(found.done.result(10)) for found in given_] == [5] * 30
    coalescer.close()
