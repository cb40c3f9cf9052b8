"""First: what a job is, and that Redis holds the truth about it.

Read these files in order; each test is one sentence about Podium.
"""

from datetime import timedelta

import pytest
from redis import Redis

from jobs.errors import QueueFull
from jobs.model import Claim, Lane
from jobs.queue import Doorbell
from jobs.states import JobState, Outcome
from jobs.store import Room, Store
from tests.conftest import LEASE, new_job


def test_a_job_and_the_message_that_it_waits_are_stored_in_one_step(
    store: Store, doorbell: Doorbell, redis: Redis
) -> None:
    created = store.create(new_job(), message=doorbell.message("job-1", "minilm", Lane.INTERACTIVE))
    job = store.get("job-1")
    assert job == created
    assert job.state is JobState.QUEUED
    assert job.announced_at == job.created_at
    assert redis.llen("score.minilm.interactive") == 1
    assert store.unannounced(timedelta(0), 10) == []


def test_a_job_that_is_refused_is_not_announced(store: Store, doorbell: Doorbell, redis: Redis) -> None:
    message = doorbell.message("job-1", "minilm", Lane.INTERACTIVE)
    store.create(new_job(), message=message)
    assert store.create(new_job(), message=message) is Outcome.REFUSED
    large = new_job("job-2").model_copy(update={"tokens": 2})
    with pytest.raises(QueueFull):
        store.create(large, Room(tokens=1, jobs=1, memory_share=1.0), message)
    assert redis.llen("score.minilm.interactive") == 1


def test_a_claim_gives_one_worker_the_job_for_the_time_of_a_lease(store: Store) -> None:
    store.create(new_job())
    claim = store.claim("job-1", "worker-1", LEASE)
    assert isinstance(claim, Claim)
    assert claim.generation == 1
    assert claim.work.query == "blue sky"
    assert store.claim("job-1", "worker-2", LEASE) is Outcome.REFUSED


def test_a_refusal_is_a_value_and_not_an_exception(store: Store) -> None:
    assert store.claim("no-such-job", "worker-1", LEASE) is Outcome.MISSING
