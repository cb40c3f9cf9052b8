"""The transition tables."""

from jobs.states import SUCCESSORS, JobState, predecessors


def test_a_terminal_state_has_no_successor_and_every_other_one_reaches_an_end() -> None:
    for state in JobState:
        reached, new = {state}, {state}
        while new:
            new = {after for before in new for after in SUCCESSORS[before]} - reached
            reached |= new
        assert any(found.terminal for found in reached)
        assert state.terminal == (not SUCCESSORS[state])


def test_predecessors_is_the_table_read_backwards() -> None:
    for state in JobState:
        assert set(predecessors(state)) == {before for before in JobState if state in SUCCESSORS[before]}


def test_only_a_running_job_can_succeed() -> None:
    assert predecessors(JobState.SUCCEEDED) == [JobState.RUNNING]
