"""The states of a job and of its callback, and what may follow what.

Two machines on purpose: a callback that can't be delivered never makes a job look failed. The tables
here are the only place where a transition is allowed; the Lua scripts receive the allowed predecessors
as arguments and know no state by themselves.
"""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"  # stored, waits for a worker
    RUNNING = "running"  # a worker holds a lease on it
    SUCCEEDED = "succeeded"  # a result is stored
    FAILED = "failed"  # an error is stored instead
    CANCELLED = "cancelled"  # the caller took it back
    EXPIRED = "expired"  # a deadline passed before it could end

    @property
    def terminal(self) -> bool:
        return not SUCCESSORS[self]


SUCCESSORS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


def predecessors(state: JobState) -> list[JobState]:
    """The states from which `state` may be entered, in the order of the enum."""
    return [before for before, after in SUCCESSORS.items() if state in after]


class Outcome(StrEnum):
    """What happened when a transition was asked for. A refusal is a value, not an exception."""

    OK = "OK"  # it was made
    REFUSED = "REFUSED"  # the job is in a state from which it can't be made
    SUPERSEDED = "SUPERSEDED"  # a later generation holds the job: the asker is stale
    LATE = "LATE"  # a deadline has passed: the job must expire
    CONFLICT = "CONFLICT"  # the idempotency key came with another request before
    MISSING = "MISSING"  # there is no such job (any more)


class CallbackState(StrEnum):
    PENDING = "pending"  # waits for its first or next attempt
    DELIVERED = "delivered"  # the target answered 2xx
    EXHAUSTED = "exhausted"  # the schedule is used up, or the target answered 410
