"""First: what a job is, and that Redis holds the truth about it.

Read these files in order; each test is one sentence about Podium.
"""

from redis import Redis

from jobs.model import Claim
from jobs.states import JobState, Outcome
from jobs.store import Store
from tests.conftest import LEASE, new_job


def test_a_job_is_stored_before_anybody_hears_of_it(store: Store, redis: Redis) -> None:
    store.create(new_job())
    job = store.get("job-1")
    assert job is not None
    assert job.state is JobState.QUEUED
    assert job.announced_at is None
    assert redis.keys("score.*") == []


def test_a_claim_gives_one_worker_the_job_for_the_time_of_a_lease(store: Store) -> None:
    store.create(new_job())
    claim = store.claim("job-1", "worker-1", LEASE)
    assert isinstance(claim, Claim)
    assert claim.generation == 1
    assert claim.work.query == "blue sky"
    assert store.claim("job-1", "worker-2", LEASE) is Outcome.REFUSED


def test_a_refusal_is_a_value_and_not_an_exception(store: Store) -> None:
    assert store.claim("no-such-job", "worker-1", LEASE) is Outcome.MISSING
