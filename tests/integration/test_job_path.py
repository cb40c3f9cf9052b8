"""One job through store, runner, coalescer and fake engine."""

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from jobs.errors import StoreUnavailable
from jobs.model import CallbackTarget, Claim, DocumentStatus, Failure
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import CallbackState, JobState, Outcome
from jobs.store import Store
from tests.conftest import LEASE, new_job
from tests.support.keyspace import held
from worker.engines.base import Prompt
from worker.engines.fake import MURDER
from worker.runner import Ended, Runner
from worker.sweeper import Sweeper


def test_a_job_is_ranked_and_its_documents_are_erased(runner: Runner, store: Store, redis: Redis) -> None:
    store.create(new_job())
    assert runner.run("job-1") is Ended.SUCCEEDED
    job = store.get("job-1")
    assert job is not None
    assert job.result is not None
    assert job.state is JobState.SUCCEEDED
    assert [entry.index for entry in job.result.results] == [2, 1, 0]
    assert all(entry.status is DocumentStatus.OK and entry.document is None for entry in job.result.results)
    assert "sky" not in held(redis, "podium:job:job-1")
    assert 0 < redis.ttl("podium:job:job-1") <= 3600


def test_return_documents_keeps_the_texts_and_top_n_cuts(runner: Runner, store: Store) -> None:
    store.create(new_job(top_n=2, return_documents=True))
    runner.run("job-1")
    job = store.get("job-1")
    assert job is not None
    assert job.result is not None
    assert [entry.document.text for entry in job.result.results if entry.document] == [
        "blue sky",
        "the sky is blue",
    ]
    assert job.result.usage.documents == 3
    assert (job.scored, job.total) == (3, 3), "all were scored, though two are returned"


def test_ties_stay_in_the_order_of_the_request(runner: Runner, store: Store) -> None:
    store.create(new_job(documents=("same", "same", "blue", "same")))
    runner.run("job-1")
    job = store.get("job-1")
    assert job is not None
    assert job.result is not None
    assert [entry.index for entry in job.result.results] == [2, 0, 1, 3]


def test_a_second_doorbell_is_harmless(runner: Runner, store: Store) -> None:
    store.create(new_job())
    assert runner.run("job-1") is Ended.SUCCEEDED
    before = store.get("job-1")
    assert runner.run("job-1") is Ended.NOT_OURS
    assert runner.run("no-such-job") is Ended.NOT_OURS
    assert store.get("job-1") == before


def test_a_late_write_of_a_stale_worker_is_superseded(store: Store) -> None:
    store.create(new_job())
    first = store.claim("job-1", "worker-1", LEASE)
    assert isinstance(first, Claim)
    assert store.claim("job-1", "worker-2", LEASE) is Outcome.REFUSED
    store.release("job-1", first.generation, charge=True)
    second = store.claim("job-1", "worker-2", LEASE)
    assert isinstance(second, Claim)
    failure = Failure(code="x", message="x")
    assert store.renew([("job-1", first.generation, 1)], LEASE) == [Outcome.SUPERSEDED]
    assert store.release("job-1", first.generation, charge=True) is Outcome.SUPERSEDED
    assert store.finish("job-1", first.generation, JobState.FAILED, failure) is Outcome.SUPERSEDED
    assert store.finish("job-1", second.generation, JobState.FAILED, failure) is Outcome.OK
    assert store.finish("job-1", second.generation, JobState.FAILED, failure) is Outcome.REFUSED


def test_leases_are_renewed_together_and_each_is_told_its_own_outcome(store: Store) -> None:
    for job_id in ("held", "given-back"):
        store.create(new_job(job_id))
        store.claim(job_id, "worker-1", LEASE)
    store.release("given-back", 1, charge=False)
    asked = [("gone", 1, 0), ("held", 1, 3), ("given-back", 1, 1), ("held", 7, 9)]
    outcomes = [Outcome.MISSING, Outcome.OK, Outcome.REFUSED, Outcome.SUPERSEDED]
    assert store.renew(asked, LEASE) == outcomes
    held = store.get("held")
    assert held is not None
    assert held.scored == 3


def test_a_lost_lease_goes_back_charged_and_a_kept_one_does_not(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    for job_id in ("lost", "kept"):
        store.create(new_job(job_id))
        store.claim(job_id, "worker-1", LEASE)
    later = Store(redis, offset=timedelta(seconds=10))
    later.renew([("kept", 1, 2)], LEASE)
    sweeper = Sweeper(Store(redis, offset=timedelta(seconds=20)), doorbell, settings)
    sweeper.sweep()
    assert sweeper.mended.all() == {"lease_lost": 1, "announced_again": 1, "poisoned": 0, "expired": 0}
    lost, kept = store.get("lost"), store.get("kept")
    assert lost is not None
    assert kept is not None
    assert (lost.state, lost.attempts) == (JobState.QUEUED, 1)
    assert (kept.state, kept.attempts, kept.scored) == (JobState.RUNNING, 0, 2)
    assert doorbell.ringing("minilm", new_job().lane) == 1


def test_a_job_that_loses_every_worker_is_poison_and_its_callback_says_so(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    store.create(new_job(callback=CallbackTarget(url="https://example.com/hook")))
    for generation in range(1, settings.jobs.max_attempts + 1):
        assert isinstance(store.claim("job-1", "worker-1", LEASE), Claim)
        store.renew([("job-1", generation, 0)], LEASE, inside=True)
        sweeper = Sweeper(Store(redis, offset=timedelta(seconds=20)), doorbell, settings)
        sweeper.take_back()
    assert sweeper.mended.all() == {"lease_lost": 0, "announced_again": 0, "poisoned": 1, "expired": 0}
    job, callback = store.get("job-1"), store.callback("job-1")
    assert job is not None
    assert job.error is not None
    assert callback is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "poison")
    assert callback.state is CallbackState.PENDING
    assert "poison" in callback.body


def test_a_suspect_that_only_waited_in_a_lost_worker_is_not_charged_again(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell
) -> None:
    store.create(new_job())
    for _ in range(settings.jobs.max_attempts * 2):
        assert isinstance(store.claim("job-1", "worker-1", LEASE), Claim)
        Sweeper(Store(redis, offset=timedelta(seconds=20)), doorbell, settings).take_back()
    job = store.get("job-1")
    assert job is not None
    assert (job.state, job.attempts) == (JobState.QUEUED, 1)


def test_the_engine_is_given_a_suspect_only_after_that_is_noted(
    redis: Redis, store: Store, runner: Runner
) -> None:
    noted: list[Any] = []
    engine = runner.engine
    add = engine.add

    def watched(request_id: str, prompt: Prompt, *, urgent: bool = False) -> None:
        noted.append(redis.hget("podium:job:job-1", "inside"))
        add(request_id, prompt, urgent=urgent)

    engine.add = watched  # type: ignore[method-assign]
    store.create(new_job())
    store.claim("job-1", "worker-1", LEASE)
    store.release("job-1", 1, charge=True)
    assert runner.run("job-1") is Ended.SUCCEEDED
    assert noted
    assert set(noted) == {"1"}


def test_a_result_is_stored_once_redis_is_back(redis: Redis, runner: Runner) -> None:
    class Away(Store):
        failures = 3

        def finish(self, *args: Any, **named: Any) -> Outcome:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("away, on purpose")
            return super().finish(*args, **named)

    away = Away(redis)
    away.create(new_job())
    assert replace(runner, store=away).run("job-1") is Ended.SUCCEEDED
    assert away.failures == 0


def test_a_leaving_worker_does_not_wait_for_redis(redis: Redis, runner: Runner) -> None:
    class Away(Store):
        def finish(self, *_: Any, **__: Any) -> Outcome:
            runner.coalescer.hand_back()
            raise StoreUnavailable("away, on purpose")

    away = Away(redis)
    away.create(new_job())
    with pytest.raises(StoreUnavailable):
        replace(runner, store=away).run("job-1")


def test_a_claim_whose_answer_was_lost_is_answered_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(new_job())
    monkeypatch.setattr(store, "_calls", itertools.repeat(1))
    first, again = store.claim("job-1", "worker-1", LEASE), store.claim("job-1", "worker-1", LEASE)
    assert isinstance(first, Claim)
    assert isinstance(again, Claim)
    assert (first.generation, again.generation) == (1, 1)


def test_a_dead_engine_hands_the_job_back_charged_and_nothing_more_is_claimed(
    runner: Runner, store: Store
) -> None:
    store.create(new_job("murderer", documents=(MURDER,)))
    store.create(new_job("next"))
    assert runner.run("murderer") is Ended.HANDED_BACK
    assert runner.run("next") is Ended.HANDED_BACK
    murderer, following = store.get("murderer"), store.get("next")
    assert murderer is not None
    assert following is not None
    assert (murderer.state, murderer.attempts) == (JobState.QUEUED, 1)
    assert (following.state, following.attempts, following.generation) == (JobState.QUEUED, 0, 0)


def test_a_draining_worker_hands_back_uncharged_and_rings_again(
    runner: Runner, store: Store, doorbell: Doorbell
) -> None:
    store.create(new_job())
    runner.coalescer.hand_back()
    assert runner.run("job-1") is Ended.HANDED_BACK
    job = store.get("job-1")
    assert job is not None
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert doorbell.ringing(job.model, job.lane) == 1
