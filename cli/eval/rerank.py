"""Step 2 of an evaluation: each question as one job of the lane `bulk`, through the public API.

A request that the API pushes back (429, 503) is sent again when it says so; one whose connection was lost is
sent again with the same Idempotency-Key, so that it makes no second job.
"""

import asyncio
import hashlib
import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from cli.client import ApiProblem
from cli.eval.collection import Question
from jobs.model import Lane, Value

IN_FLIGHT = 32
"""Jobs at once: enough to keep an engine full, few enough to lose when this process is killed."""

WAIT = 20
"""Seconds that one request waits for a job's end."""

PAUSE = 2.0
"""Seconds before the next try where the API does not say how long."""

PATIENCE = 120.0
"""Seconds of pauses after which an API that does not answer, or only with 5xx, is given up."""

TEND_EVERY = 0.2
"""Seconds between two looks after what else has to go on."""


class Answer(Value):
    """The scores of one question's documents, in the question's order. None: the engine had no score."""

    query: str
    scores: tuple[float | None, ...]
    truncated: int
    provenance: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def ranking(self) -> list[int]:
        """Places of the documents, best first; ties as they were asked, then those without a score."""
        return sorted(
            range(len(self.scores)),
            key=lambda place: math.inf if (score := self.scores[place]) is None else -score,
        )


@dataclass(frozen=True)
class Failed:
    """A job that ended without scores."""

    query: str
    reason: str


@dataclass(frozen=True)
class Asker:
    """What it takes to turn a question into an answer. `told` hears why it has to wait."""

    client: httpx.AsyncClient
    model: str
    instruction: str | None = None
    told: Callable[[str], None] = lambda _: None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    evaluation: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Part of every Idempotency-Key: another evaluation scores again."""

    async def ask(self, question: Question) -> Answer | Failed:
        """One job from its submission to its end. Raises `ApiProblem` if the API refuses it or is gone."""
        body: dict[str, Any] = {
            "model": self.model,
            "query": question.text,
            "documents": [
                {"id": document, "text": text}
                for document, text in zip(question.documents, question.texts, strict=True)
            ],
            "lane": Lane.BULK,
            "cache": False,  # the model is what is measured
        }
        if self.instruction is not None:
            body["instruction"] = self.instruction
        key = hashlib.sha256(f"{self.evaluation} {question.id}".encode()).hexdigest()
        answer = await self._call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
        while True:
            if answer.status_code in (413, 422) and _code(answer) != "unknown_model":
                return Failed(question.id, _problem(answer))  # this query is the matter, not the rest
            if answer.is_error:
                raise ApiProblem(f"query {question.id}: {_problem(answer)}")
            job = answer.json()
            if job["status"] not in ("queued", "running"):
                break
            answer = await self._call("GET", f"/v1/jobs/{job['id']}", params={"wait": WAIT})
            if answer.status_code == httpx.codes.NOT_FOUND:
                return Failed(question.id, "its result is no longer kept")
        if job["status"] != "succeeded":
            error = job.get("error", {})
            return Failed(question.id, f"{error.get('code', job['status'])}: {error.get('message', '')}")
        return _answer(question, job)

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, sent again until the API has taken or refused it."""
        waited = 0.0
        while True:
            patience, seconds = PATIENCE, PAUSE
            try:
                answer = await self.client.request(method, path, **options)
            except httpx.TransportError as error:
                why = f"the connection was lost ({str(error) or type(error).__name__})"
            else:
                pushed_back = answer.status_code == httpx.codes.TOO_MANY_REQUESTS
                if not pushed_back and not answer.is_server_error:
                    return answer
                why, seconds = _problem(answer), _retry_after(answer)
                patience = math.inf if pushed_back else PATIENCE  # a full queue is emptied in time
            if waited >= patience:
                raise ApiProblem(f"given up after {waited:.0f} s of waiting: {why}")
            self.told(f"{why}; asking again in {seconds:.0f} s")
            await self.pause(seconds)
            waited += seconds


async def rerank(
    asker: Asker,
    questions: Sequence[Question],
    ended: Callable[[Question, Answer | Failed], None],
    tend: Callable[[], None] = lambda: None,
) -> None:
    """Asks all questions, `IN_FLIGHT` at once. `ended` hears of each; `tend` is called now and then.

    What any of them raises ends it, and what is in flight is dropped.
    """
    waiting = iter(questions)

    async def ask() -> None:
        for question in waiting:  # shared: each takes the next one
            ended(question, await asker.ask(question))

    async def look_after() -> None:
        while True:
            tend()
            await asyncio.sleep(TEND_EVERY)

    try:
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(look_after())
            asking = [group.create_task(ask()) for _ in range(min(IN_FLIGHT, len(questions)))]
            await asyncio.wait(asking)
            tending.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _answer(question: Question, job: dict[str, Any]) -> Answer:
    scores: list[float | None] = [None] * len(question.documents)
    for result in job["results"]:
        scores[result["index"]] = result.get("relevance_score")
    return Answer(
        query=question.id,
        scores=tuple(scores),
        truncated=sum(result["status"] == "truncated" for result in job["results"]),
        provenance={
            name: value for name, value in job["provenance"].items() if name not in ("worker", "attempt")
        },
        warnings=tuple(job.get("warnings", ())),
    )


def _problem(answer: httpx.Response) -> str:
    """What the API says is wrong; what is not Podium's may say it in any way."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    return f"the API answered {answer.status_code}: {detail}"


def _code(answer: httpx.Response) -> str | None:
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _retry_after(answer: httpx.Response) -> float:
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else PAUSE
