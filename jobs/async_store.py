"""What the API asks of the store for each job, on asyncio's loop instead of a thread.

A thread for each call was the larger part of what a call costs. Record 0018.
"""

import asyncio
from collections.abc import Callable, Collection
from copy import copy
from typing import Any, ParamSpec, TypeVar

from redis.exceptions import NoScriptError

from jobs.connection import available, connect_on_loop
from jobs.message import Message
from jobs.model import Job, NewJob
from jobs.scripts import Question
from jobs.store import Created, Room, Store

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple[Question[Any], list[Any], asyncio.Future[Any]]
"""A question, its command, and who waits for the answer."""

AT_ONCE = 100
"""Calls in one pipeline, at most."""

LARGE = 200_000
"""Bytes of JSON, about, that take some milliseconds to write or to read. A thread does that."""

METADATA = 4_000
"""Bytes that are guessed for the metadata of a document that has some."""

SHRUNK = 5
"""So many times larger than at rest is a result of many documents."""


class AsyncStore:
    """Of one loop. What is asked while a call is on its way goes to Redis together, when that is back."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._redis = connect_on_loop(url)
        self._encode = self._redis.get_encoder().encode  # type: ignore[no-untyped-call]
        self._waiting: list[Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def create(self, job: NewJob, room: Room, message: Message) -> Created:
        """As `Store.creation` says."""
        metadata = METADATA * sum(document.metadata is not None for document in job.work.documents)
        size = 4 * job.tokens + metadata
        return await self._ask(await _aside(size, self._store.creation, job, room, message))

    async def get(self, job_id: str) -> Job | None:
        """As `Store.reading` says."""
        return await self._ask(self._store.reading(job_id))

    async def close(self) -> None:
        """Who still waits is told that it was cancelled."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
            self._sending = None
        for _, _, asked in self._waiting:
            asked.cancel()
        self._waiting.clear()
        await self._redis.aclose()

    async def _ask(self, question: Question[T]) -> T:
        what = self._store.scripts.command(question.script, question.keys, question.args)
        # One that can't be written fails here, alone.
        command = [what[0], *map(self._encode, what[1:])]
        asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, command, asked))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        try:
            with available():
                answer = await asked
        finally:
            del asked  # a failure's traceback would keep it, it the failure, and all of that the job's texts
        return await _aside(_size(answer), question.read, answer)

    async def _send(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            calls = [call for call in calls if not call[2].done()]  # the others have gone meanwhile
            try:
                found = await self._answers(calls)
                unknown = [n for n, answer in enumerate(found) if isinstance(answer, NoScriptError)]
                if unknown:  # a server that was started anew: what it could not do was not done
                    again = [calls[n] for n in unknown]
                    answers = await self._answers(again, {question.script for question, _, _ in again})
                    for n, answer in zip(unknown, answers, strict=True):
                        found[n] = answer
            except BaseException:  # however this ends, nobody waits on
                for _, _, asked in calls:
                    asked.cancel()
                self._sending = None
                raise
            for (_, _, asked), answer in zip(calls, found, strict=True):
                if asked.done():
                    continue  # who asked has gone
                if isinstance(answer, Exception):
                    asked.set_exception(answer)
                else:
                    asked.set_result(answer)
        self._sending = None

    async def _answers(self, calls: list[Call], scripts: Collection[str] = ()) -> list[Any]:
        """In the order of the calls, an exception where one has failed. `scripts` are sent before them."""
        if not calls:
            return []
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for name in scripts:
                    pipeline.execute_command("SCRIPT LOAD", self._store.scripts.text(name))
                for question, command, _ in calls:
                    options = {"NEVER_DECODE": True} if question.raw else {}
                    pipeline.execute_command(*command, **options)
                answers = await pipeline.execute(raise_on_error=False)
            for loaded in answers[: len(scripts)]:
                if isinstance(loaded, Exception):
                    raise loaded
            return list(answers[len(scripts) :])
        except Exception as error:  # whatever it is, it is for each who asked, and nobody waits on
            return [copy(error) for _ in calls]


async def _aside(size: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result; made by a thread if it is about so many bytes that others would wait for it."""
    if size > LARGE:
        return await asyncio.to_thread(call, *args, **kwargs)
    return call(*args, **kwargs)


def _size(answer: Any) -> int:
    """Bytes of JSON, about, in an answer: it has a job's result, compressed, at its first level."""
    parts = answer if isinstance(answer, list) else []
    return SHRUNK * sum(len(part) for part in parts if isinstance(part, bytes))
