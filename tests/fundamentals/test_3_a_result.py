"""Third: the runner takes a job from its claim to its end, and a stale worker can't undo that."""

from jobs.model import Claim, Failure
from jobs.states import JobState, Outcome
from jobs.store import Store
from tests.conftest import LEASE, new_job
from worker.runner import Ended, Runner


def test_documents_come_back_ranked_by_their_relevance(store: Store, runner: Runner) -> None:
    store.create(new_job(documents=("red apple", "the blue sea", "blue sky"), query="blue sky"))
    assert runner.run("job-1") is Ended.SUCCEEDED
    job = store.get("job-1")
    assert job is not None
    assert job.result is not None
    assert job.state is JobState.SUCCEEDED
    assert [entry.index for entry in job.result.results] == [2, 1, 0]
    scores = [entry.relevance_score or 0.0 for entry in job.result.results]
    assert scores == sorted(scores, reverse=True)


def test_a_result_says_what_made_it(store: Store, runner: Runner) -> None:
    store.create(new_job())
    runner.run("job-1")
    job = store.get("job-1")
    assert job is not None
    assert job.result is not None
    about = job.result.provenance
    assert (about.model, about.score, about.engine, about.attempt) == ("minilm", "cosine", "fake", 1)


def test_a_worker_that_lost_its_lease_writes_into_the_void(store: Store) -> None:
    store.create(new_job())
    stale = store.claim("job-1", "worker-1", LEASE)
    assert isinstance(stale, Claim)
    store.release("job-1", stale.generation, charge=True)  # as the sweeper does when a lease has ended
    store.claim("job-1", "worker-2", LEASE)
    late = Failure(code="late", message="too late")
    assert store.finish("job-1", stale.generation, JobState.FAILED, late) is Outcome.SUPERSEDED
