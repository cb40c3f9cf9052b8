"""A backlog of bulk jobs never takes all of a worker's places, and does not stand still either."""

from pathlib import Path

from jobs.model import Lane
from jobs.states import JobState
from tests.support.parts import parts
from tests.support.waiting import until

PLACES, BULK_PLACES, BACKLOG = 4, 3, 5


def test_an_interactive_job_runs_while_bulk_jobs_have_all_the_places_that_they_may(tmp_path: Path) -> None:
    with parts(
        tmp_path,
        "api",
        "score-1",
        PODIUM_WORKER__THREADS=str(PLACES),
        PODIUM_WORKER__BULK_THREADS=str(BULK_PLACES),
        PODIUM_ENGINE__FAKE_STEP="0.05",
        PODIUM_ENGINE__STEP_TOKENS="2000",
        PODIUM_CACHE__ENABLED="false",
    ) as running:
        # 60 steps each; what the engine holds already, and an interactive job waits for, are 4.
        long = {"query": "ships", "documents": ["lighthouse " * 400] * 300, "lane": Lane.BULK.value}
        bulk = [running.submit(**long) for _ in range(BACKLOG)]

        def states() -> list[JobState]:
            return [running.job(job_id).state for job_id in bulk]

        until("bulk has its places", lambda: states().count(JobState.RUNNING) == BULK_PLACES, 20)
        job_id = running.submit(query="ships", documents=["a ship"])
        assert running.until_ended(job_id).state is JobState.SUCCEEDED
        at_its_end = states()
        assert at_its_end.count(JobState.RUNNING) == BULK_PLACES
        assert at_its_end.count(JobState.QUEUED) == BACKLOG - BULK_PLACES, "no bulk job had to end for it"
        for job_id in bulk:
            assert running.until_ended(job_id, within=60).state is JobState.SUCCEEDED
