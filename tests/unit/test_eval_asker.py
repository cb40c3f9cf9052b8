"""How `podium eval` behaves towards an API that pushes back, is lost, or refuses."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from cli.client import ApiProblem
from cli.eval.collection import Question
from cli.eval.rerank import PATIENCE, PAUSE, Answer, Asker, Failed, rerank

QUESTION = Question("q", "what", ("a", "b"), ("A", "B"))
JOB = {"id": "job-1", "status": "queued"}
DONE = {
    "id": "job-1",
    "status": "succeeded",
    "results": [
        {"index": 1, "relevance_score": 0.5, "status": "truncated", "id": "b"},
        {"index": 0, "status": "failed", "id": "a"},
    ],
    "provenance": {"model": "m", "worker": "score-1", "attempt": 1},
    "warnings": ["w"],
}

Step = httpx.Response | Exception


class Service:
    """Answers one request after the other as it is told, the last answer again and again."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.told: list[str] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # others go on, as with a real connection
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def run(self, *, tend: Callable[[], None] = lambda: None) -> Answer | Failed:
        ends: list[Answer | Failed] = []

        async def ask() -> None:
            transport = httpx.MockTransport(self.answer)
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
                asker = Asker(client, "m", "find", told=self.told.append, pause=self.pause)
                await rerank(asker, [QUESTION], lambda _, end: ends.append(end), tend)

        asyncio.run(ask())
        return ends[0]


def problem(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": f"problem {status}"}, headers=headers)


def test_a_question_is_one_job_of_the_lane_bulk() -> None:
    service = Service(
        httpx.Response(202, json=JOB), httpx.Response(200, json=JOB), httpx.Response(200, json=DONE)
    )
    assert service.run() == Answer(
        query="q", scores=(None, 0.5), truncated=1, provenance={"model": "m"}, warnings=("w",)
    )
    post, *gets = service.requests
    assert json.loads(post.content) == {
        "model": "m",
        "query": "what",
        "documents": [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}],
        "lane": "bulk",
        "cache": False,
        "instruction": "find",
    }
    assert {str(get.url) for get in gets} == {"http://api.test/v1/jobs/job-1?wait=20"}
    assert service.pauses == []


def test_retry_after_is_obeyed_and_a_lost_post_repeated_with_the_same_key() -> None:
    service = Service(
        problem(429, **{"Retry-After": "7"}),
        httpx.ReadError("lost"),
        problem(503, **{"Retry-After": "3"}),
        httpx.Response(200, json=DONE),
    )
    assert isinstance(service.run(), Answer)
    assert service.pauses == [7, PAUSE, 3]
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
    assert {request.content for request in service.requests} == {service.requests[0].content}
    assert "problem 429; asking again in 7 s" in service.told[0]
    again = Service(httpx.Response(200, json=DONE))
    again.run()
    key = again.requests[0].headers["Idempotency-Key"]
    assert key != service.requests[0].headers["Idempotency-Key"], "another evaluation scores anew"


@pytest.mark.parametrize("trouble", [httpx.ConnectError("refused"), problem(503), problem(500)])
def test_an_api_that_stays_away_is_given_up(trouble: Step) -> None:
    service = Service(trouble)
    with pytest.raises(ApiProblem, match="given up after 120 s of waiting"):
        service.run()
    assert sum(service.pauses) == PATIENCE


def test_a_full_queue_is_waited_for_as_long_as_it_takes() -> None:
    full = problem(429, **{"Retry-After": "3600"})
    service = Service(full, full, full, httpx.Response(200, json=DONE))
    assert isinstance(service.run(), Answer)


def test_a_refusal_is_said_in_the_apis_own_words() -> None:
    with pytest.raises(ApiProblem, match="query q: the API answered 401: problem 401"):
        Service(problem(401)).run()
    unknown = httpx.Response(422, json={"code": "unknown_model", "detail": "there is none"})
    with pytest.raises(ApiProblem, match="query q: the API answered 422: there is none"):
        Service(unknown).run()
    with pytest.raises(ApiProblem, match="query q: the API answered 404: not Podium"):
        Service(httpx.Response(404, text="not Podium")).run()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (
            httpx.Response(200, json={**JOB, "status": "failed", "error": {"code": "x", "message": "y"}}),
            "x: y",
        ),
        (httpx.Response(200, json={**JOB, "status": "cancelled"}), "cancelled"),
        (problem(404), "no longer kept"),
        (problem(413), "the API answered 413"),
        (problem(422), "the API answered 422"),
    ],
)
def test_a_job_without_a_result_is_a_failure_of_its_query(end: httpx.Response, reason: str) -> None:
    found = Service(httpx.Response(202, json=JOB), end).run()
    assert isinstance(found, Failed)
    assert reason in found.reason


def test_what_tending_raises_ends_it() -> None:
    def tend() -> None:
        raise ApiProblem("the stack is gone")

    with pytest.raises(ApiProblem, match="the stack is gone"):
        Service(httpx.Response(200, json=JOB)).run(tend=tend)
