"""Any order of two workers, a sweeper, a canceller and a jumping clock keeps the store's promises."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from jobs.message import Message
from jobs.model import Claim, Failure
from jobs.states import JobState, Outcome
from jobs.store import Store
from tests.conftest import LEASE, new_job

JOBS = ("job-1", "job-2", "job-3")
job_ids = st.sampled_from(JOBS)
WHY = Failure(code="x", message="x")


def machine(redis: Redis) -> type[RuleBasedStateMachine]:
    class StoreMachine(RuleBasedStateMachine):
        """`held`: what each worker believes to hold. `newest`: the latest generation of each job."""

        def __init__(self) -> None:
            super().__init__()
            redis.flushdb()
            self.clock = timedelta(0)
            self.held: list[tuple[str, int]] = []
            self.newest: dict[str, int] = {}
            self.charged: dict[str, int] = dict.fromkeys(JOBS, 0)
            self.ended: dict[str, JobState] = {}

        @property
        def store(self) -> Store:
            return Store(redis, offset=self.clock)

        @rule(
            job_id=job_ids,
            deadlines=st.sets(st.sampled_from(["start_within", "finish_within"])),
            rings=st.booleans(),
        )
        def create(self, job_id: str, deadlines: set[str], rings: bool) -> None:
            within = dict.fromkeys(deadlines, timedelta(seconds=100))
            job = new_job(job_id).model_copy(update={"tokens": 7} | within)
            outcome = self.store.create(job, message=Message("a-list", job_id) if rings else None)
            assert (outcome is Outcome.REFUSED) == (job_id in self.newest)
            self.newest.setdefault(job_id, 0)

        @rule(job_id=job_ids)
        def claim(self, job_id: str) -> None:
            claim = self.store.claim(job_id, "worker", LEASE)
            if isinstance(claim, Claim):
                assert claim.generation == self.newest[job_id] + 1, "a generation is never reused"
                assert claim.attempts == self.charged[job_id]
                self.newest[job_id] = claim.generation
                self.held.append((job_id, claim.generation))

        @precondition(lambda self: self.held)
        @rule(data=st.data(), done=st.booleans())
        def a_worker_ends_its_job(self, data: st.DataObject, done: bool) -> None:
            job_id, generation = data.draw(st.sampled_from(self.held))
            state = JobState.FAILED
            if done:
                outcome = self.store.finish(job_id, generation, state, WHY)
            else:
                outcome = self.store.release(job_id, generation, charge=False)
            if generation != self.newest[job_id]:
                assert outcome is Outcome.SUPERSEDED, "a stale worker wrote"
            if outcome is Outcome.OK and done:
                self.ended[job_id] = state

        @precondition(lambda self: self.held)
        @rule(data=st.data())
        def a_worker_renews(self, data: st.DataObject) -> None:
            job_id, generation = data.draw(st.sampled_from(self.held))
            (outcome,) = self.store.renew([(job_id, generation, 1)], LEASE)
            assert outcome is not Outcome.OK or generation == self.newest[job_id]

        @rule()
        def sweep(self) -> None:
            for job_id, generation, _, _ in self.store.overdue(10):
                if self.store.release(job_id, generation, charge=True) is Outcome.OK:
                    self.charged[job_id] += 1
            for job_id, before in self.store.expired(10):
                if self.store.finish(job_id, None, JobState.EXPIRED, WHY, before=before) is Outcome.OK:
                    self.ended[job_id] = JobState.EXPIRED

        @rule(job_id=job_ids)
        def cancel(self, job_id: str) -> None:
            outcome = self.store.finish(job_id, None, JobState.CANCELLED, WHY)
            assert (outcome is Outcome.OK) == (job_id in self.newest and job_id not in self.ended)
            if outcome is Outcome.OK:
                self.ended[job_id] = JobState.CANCELLED

        @rule(seconds=st.sampled_from([1, 16, 101]))
        def the_clock_jumps(self, seconds: int) -> None:
            self.clock += timedelta(seconds=seconds)

        @invariant()
        def every_job_is_in_exactly_one_place(self) -> None:
            queued = set(redis.zrange("podium:queued:minilm:interactive", 0, -1))
            running = set(redis.zrange("podium:running", 0, -1))
            assert not queued & running
            rung = {job_id for job_id in queued if redis.hexists(f"podium:job:{job_id!s}", "announced_at")}
            assert set(redis.zrange("podium:unannounced", 0, -1)) == queued - rung
            lane = "podium:lane:minilm:interactive"
            assert int(redis.hget(lane, "tokens") or 0) == 7 * len(queued)
            assert int(redis.hget(lane, "running") or 0) == len(running)
            for job_id in self.newest:
                job = self.store.get(job_id)
                assert job is not None
                assert (job_id in queued) == (job.state is JobState.QUEUED)
                assert (job_id in running) == (job.state is JobState.RUNNING)
                assert job.attempts == self.charged[job_id]
                if job_id in self.ended:
                    assert job.state is self.ended[job_id], "what has ended stays as it is"
                    assert redis.ttl(f"podium:job:{job_id}") > 0
                    assert not redis.hexists(f"podium:job:{job_id}", "work")
                    for key in ("podium:unannounced", "podium:deadlines"):
                        assert redis.zscore(key, job_id) is None
                else:
                    assert redis.ttl(f"podium:job:{job_id}") == -1, "an open job must not vanish"

    return StoreMachine


@pytest.mark.timeout(120)
def test_no_interleaving_breaks_the_store(redis: Redis) -> None:
    run_state_machine_as_test(
        machine(redis),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
