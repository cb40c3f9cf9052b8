"""`plan`: which sequences go into the engine next. Properties, then two examples."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.model import Lane
from worker.engines.base import Prompt
from worker.plan import Batch, plan


def batch(name: str, lane: Lane, costs: list[int]) -> Batch:
    return Batch.of(name, lane, [Prompt([1] * cost) for cost in costs], shares=False)


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


@given(batches, st.integers(0, 200))
def test_bulk_goes_in_only_when_every_interactive_sequence_does(waiting: list[Batch], budget: int) -> None:
    chosen = {id(b): count for b, count in plan(waiting, budget)}
    if any(chosen.get(id(b)) for b in waiting if b.lane is Lane.BULK):
        assert all(chosen.get(id(b)) == len(b.sequences) for b in waiting if b.lane is Lane.INTERACTIVE), (
            "room that an interactive sequence waits for is not taken by bulk"
        )


@given(batches, st.integers(0, 200))
def test_room_is_left_only_for_a_sequence_that_does_not_fit(waiting: list[Batch], budget: int) -> None:
    chosen = {id(b): count for b, count in plan(waiting, budget)}
    left = budget - sum(len(s) for b in waiting for s in b.sequences[: chosen.get(id(b), 0)])
    following = [rest[0] for b in waiting if (rest := b.sequences[chosen.get(id(b), 0) :])]
    assert not following or max(map(len, following)) > left


equal_batches = st.lists(
    st.builds(
        lambda lane, kinds, shares: Batch.of(
            "job", lane, [Prompt([kind] * kind) for kind in kinds], shares=shares
        ),
        st.sampled_from(Lane),
        st.lists(st.integers(1, 9), min_size=1, max_size=12),
        st.booleans(),
    ),
    max_size=8,
)


@given(equal_batches, st.integers(0, 40), st.sets(st.integers(1, 9)))
def test_what_equals_a_sequence_inside_or_chosen_already_costs_nothing_more(
    waiting: list[Batch], budget: int, have: set[int]
) -> None:
    inside = {Prompt([kind] * kind).digest for kind in have}
    chosen = [(b, s) for b, count in plan(waiting, budget, inside) for s in b.sequences[:count]]
    own = sum(len(s) for b, s in chosen if not b.shares)
    shared = {s.digest: len(s) for b, s in chosen if b.shares and s.digest not in inside}
    assert own + sum(shared.values()) <= budget


def test_a_job_whose_sequences_are_all_inside_enters_a_full_window() -> None:
    job = Batch.of("a", Lane.BULK, [Prompt([1, 2]), Prompt([3, 4])])
    assert plan([job], 0, {prompt.digest for prompt in job.sequences}) == [(job, 2)]
    assert plan([job], 0) == []


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
