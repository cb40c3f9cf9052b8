"""Commands that several threads have for Redis at the same moment go there together, in one pipeline.

A round trip costs both sides more than a script does: on two shared cores 0.1 ms of the client's and 0.05 ms
of Redis' own time, and a quarter of that for each of ten in a pipeline. Record 0016.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import DataError


@dataclass(eq=False)
class Call:
    """One thread's command, until that thread has its answer."""

    command: tuple[Any, ...]
    options: dict[str, Any]
    answer: tuple[Any] | None = None
    woken: threading.Lock = field(default_factory=threading.Lock)
    """Held until its thread has something to do."""


class Together:
    """Thread-safe. One thread at a time leads: it sends what all wait for, and wakes them and the next."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._led = False
        self._waiting: list[Call] = []

    def run(self, *command: Any, **options: Any) -> Any:
        """The answer to one command. Raises what `Redis.execute_command` does."""
        call = Call(command, options)
        call.woken.acquire()
        with self._lock:
            self._waiting.append(call)
            lead, self._led = not self._led, True
        if not lead:
            call.woken.acquire()
        (answer,) = call.answer or self._lead(call)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _lead(self, own: Call) -> tuple[Any]:
        """Sends what waits, one's own call with it, whose answer is returned."""
        with self._lock:
            calls, self._waiting = self._waiting, []
        for call, answer in zip(calls, self._send(calls), strict=True):
            call.answer = (answer,)
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        for other in (*calls, following):
            if other is not None and other is not own:
                other.woken.release()
        assert own.answer is not None
        return own.answer

    def _send(self, calls: list[Call]) -> list[Any]:
        """Answers in the order of the calls, an exception where one has failed."""
        if len(calls) == 1:
            return [self._send_alone(calls[0])]
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for call in calls:
                    pipeline.execute_command(*call.command, **call.options)  # type: ignore[no-untyped-call]
                return pipeline.execute(raise_on_error=False)
        except (DataError, UnicodeError):  # one can't be written, so none was sent: it fails alone
            return [self._send_alone(call) for call in calls]
        except Exception as error:
            return [error] * len(calls)

    def _send_alone(self, call: Call) -> Any:
        try:
            return self._redis.execute_command(*call.command, **call.options)  # type: ignore[no-untyped-call]
        except Exception as error:
            return error
