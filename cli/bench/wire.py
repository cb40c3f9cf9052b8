"""A light HTTP client for loopback: prepared requests over connections that stay open.

The client shares the machine's cores with what it measures. httpx takes about as long for a request as the
API does.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from jobs.errors import PodiumError

LARGEST_HEAD = 1 << 16


class WrongAnswer(PodiumError):
    """What was measured did not do its work."""

    code = "wrong_answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds`: from the first byte sent to the last one received."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """The bytes of one request; `headers` with _ for -."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Connection:
    """One connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> Self:
        where = urlsplit(url)
        return cls(*await asyncio.open_connection(where.hostname, where.port, limit=LARGEST_HEAD))

    async def ask(self, sent: bytes) -> Answer:
        began = time.perf_counter()
        self._writer.write(sent)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), None
        )
        if length is None:
            raise WrongAnswer(f"an answer without Content-Length: {head[:200]!r}")
        body = await self._reader.readexactly(length)
        return Answer(status, body, time.perf_counter() - began)

    async def close(self) -> None:
        self._writer.close()


Asking = Callable[[Connection, bytes], Awaitable[Answer]]


async def ask_all(
    url: str, requests: Sequence[bytes], connections: int, how: Asking = Connection.ask
) -> tuple[float, list[Answer]]:
    """The answers, and the seconds from the first request to the last one; `connections` are always busy."""
    lines = [await Connection.open(url) for _ in range(min(connections, len(requests)))]
    answers: list[Answer | None] = [None] * len(requests)
    waiting = iter(enumerate(requests))

    async def serve(line: Connection) -> None:
        for place, sent in waiting:  # shared: each takes the next one
            answers[place] = await how(line, sent)

    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for line in lines:
                group.create_task(serve(line))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        took = time.perf_counter() - began
        for line in lines:
            await line.close()
    return took, [answer for answer in answers if answer is not None]


async def job_ended(line: Connection, sent: bytes) -> Answer:
    """The end of the job that `sent` submits, with `Prefer: wait`; asked for again while it is not there."""
    answer = await line.ask(sent)
    seconds = answer.seconds
    while answer.status in (200, 202):
        job = answer.json() if answer.status == 202 or b'"results"' not in answer.body else None
        if job is None or job["status"] not in ("queued", "running"):
            break
        answer = await line.ask(request("GET", f"/v1/jobs/{job['id']}?wait=60"))
        seconds += answer.seconds
    return Answer(answer.status, answer.body, seconds)
