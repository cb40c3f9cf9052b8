"""Whatever becomes of a job, nothing of it is left once its result has expired."""

from datetime import timedelta

from redis import Redis

from jobs.ending import Ending
from jobs.model import CallbackTarget, Failure, NewJob
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import new_job
from tests.support.keyspace import keys
from tests.support.waiting import until
from worker.runner import Runner
from worker.sweeper import Sweeper

WHY = Failure(code="x", message="x")


def test_no_job_key_is_left_after_results_expire(
    settings: Settings, redis: Redis, store: Store, doorbell: Doorbell, runner: Runner
) -> None:
    def create(job_id: str, **more: object) -> NewJob:
        job = new_job(job_id).model_copy(update={"result_ttl": timedelta(seconds=1), "tokens": 5, **more})
        store.create(job)
        return job

    ending = Ending(store, doorbell, settings)
    create("scored", callback=CallbackTarget(url="https://example.com/hook"))
    runner.run("scored")
    for state in (JobState.CANCELLED, JobState.EXPIRED):
        create(state.value)
        job = store.get(state.value)
        assert job is not None
        ending.of_job(job, state, WHY, generation=None)
    create("poison")
    poison = store.get("poison")
    assert poison is not None
    ending.of_job(poison, JobState.FAILED, Failure(code="poison", message="x"), generation=None)
    assert store.work("poison") is not None, "it can be run again, as long as its failure is kept"
    assert store.work("scored") is None, "documents are erased when the job ends"

    until("the results have expired", lambda: not redis.exists("podium:job:poison"), 5)
    Sweeper(store, doorbell, settings).sweep()
    # Scores of pairs belong to no job; that each has a TTL is looked at after every test.
    left = [key for key in keys(redis) if key.startswith("podium:") and not key.startswith("podium:score:")]
    of_lanes = [key for key in left if key.startswith("podium:lane")]
    assert set(left) - set(of_lanes) == {"podium:callback:scored", "podium:callbacks"}, "due for three days"
    assert redis.ttl("podium:callback:scored") > 0
    assert redis.hget("podium:lane:minilm:interactive", "tokens") == "0"
