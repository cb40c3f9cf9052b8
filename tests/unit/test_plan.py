"""`plan`: which sequences go into the engine next. Properties, then two examples."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.model import Lane
from worker.coalescer import Batch, plan
from worker.engines.base import Prompt


def batch(name: str, lane: Lane, costs: list[int]) -> Batch:
    return Batch(name, lane, [Prompt([1] * cost) for cost in costs], [None] * len(costs))


batches = st.lists(
    st.builds(
        batch,
        st.uuids().map(str),
        st.sampled_from(Lane),
        st.lists(st.integers(1, 40), min_size=1, max_size=12),
    ),
    max_size=8,
)


@given(batches, st.integers(0, 200))
def test_the_budget_is_kept(waiting: list[Batch], budget: int) -> None:
    chosen = plan(waiting, budget)
    assert sum(len(s) for b, count in chosen for s in b.sequences[b.next : b.next + count]) <= budget


@given(batches, st.integers(40, 200))
def test_no_room_is_wasted_while_a_first_sequence_fits(waiting: list[Batch], budget: int) -> None:
    chosen = {id(b): count for b, count in plan(waiting, budget)}
    left = budget - sum(len(s) for b in waiting for s in b.sequences[: chosen.get(id(b), 0)])
    for b in waiting:
        rest = b.sequences[chosen.get(id(b), 0) :]
        assert not rest or len(rest[0]) > left


@given(batches, st.integers(40, 200))
def test_bulk_goes_in_only_when_no_interactive_sequence_fits(waiting: list[Batch], budget: int) -> None:
    chosen = {id(b): count for b, count in plan(waiting, budget)}
    interactive = [b for b in waiting if b.lane is Lane.INTERACTIVE]
    spent = sum(len(s) for b in interactive for s in b.sequences[: chosen.get(id(b), 0)])
    if any(chosen.get(id(b)) for b in waiting if b.lane is Lane.BULK):
        for b in interactive:
            rest = b.sequences[chosen.get(id(b), 0) :]
            assert not rest or len(rest[0]) > budget - spent


@given(batches)
def test_repeated_planning_ends_with_everything_inside(waiting: list[Batch]) -> None:
    for _ in range(1 + sum(len(b.sequences) for b in waiting)):
        for b, count in plan(waiting, 40):
            b.next += count
    assert all(b.next == len(b.sequences) for b in waiting)


def test_no_job_fills_the_window_alone_while_others_wait() -> None:
    first, second = (batch(name, Lane.BULK, [10] * 9) for name in "ab")
    assert [(b.job_id, count) for b, count in plan([first, second], 40)] == [("a", 2), ("b", 2)]


def test_interactive_goes_before_older_bulk() -> None:
    bulk, urgent = batch("bulk", Lane.BULK, [10] * 9), batch("urgent", Lane.INTERACTIVE, [10])
    assert [(b.job_id, count) for b, count in plan([bulk, urgent], 30)] == [("urgent", 1), ("bulk", 2)]
