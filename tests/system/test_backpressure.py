"""A queue that is over its bound pushes back, in time and in words, and never with a 5xx."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.podium_up import podium_up

BOUND = 25_000
JOBS = 46
TEXT = "word " * 2_000
"""About 2,500 estimated tokens; two of them in each job: 230,000 in all, 205,000 over the bound."""


def test_200_000_tokens_over_the_bound_a_retry_after_that_is_obeyed_succeeds(tmp_path: Path) -> None:
    statuses: Counter[int] = Counter()
    pause = threading.Event()  # never set: a caller that obeys waits
    with podium_up(
        tmp_path,
        "--no-page",
        "--no-flower",
        PODIUM_ENGINE__KIND="fake",
        PODIUM_ENGINE__FAKE_TOKEN="0.00008",
        PODIUM_CACHE__ENABLED="false",
        PODIUM_WORKER__THREADS="2",
        PODIUM_LIMITS__QUEUE_TOKENS=str(BOUND),
    ) as service:
        service.finished(service.submit(query="first", documents=[TEXT, TEXT]))

        together = threading.Barrier(JOBS)  # no newcomers take what was promised

        def caller(number: int) -> tuple[str, int]:
            """Asks until it is accepted: the job's id, and how often it was refused."""
            body = {"query": f"query {number}", "documents": [TEXT, TEXT]}
            with service.client() as client:
                together.wait(60)
                for refusals in range(10):
                    answer = client.post("/v1/jobs", json=body)
                    statuses[answer.status_code] += 1
                    if answer.status_code == 202:
                        return str(answer.json()["id"]), refusals
                    assert answer.json()["code"] == "queue_full"
                    for _ in range(10 * int(answer.headers["Retry-After"])):
                        pause.wait(0.1)  # by a clock that stands still when the machine does, as the engine
            raise AssertionError("refused ten times")

        with ThreadPoolExecutor(JOBS) as threads:
            accepted = list(threads.map(caller, range(JOBS)))
        assert set(statuses) == {202, 429}
        assert {refusals for _, refusals in accepted} == {0, 1}, "who obeys once is accepted"
        assert sum(refusals for _, refusals in accepted) >= JOBS // 2
        ended = [service.finished(job_id, within=90)["status"] for job_id, _ in accepted]
        assert ended == ["succeeded"] * JOBS
