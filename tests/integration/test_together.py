"""Commands of several threads share a round trip; each has its own answer, and its own failure."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobs.connection import connect
from jobs.settings import Settings
from jobs.together import Together
from tests.support.waiting import until
from worker.cache import connect as connect_cache

Ask = Callable[..., Future[Any]]


class Held:
    """A client whose commands wait for `go`, and are counted by how they went."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.go = threading.Event()
        self.sent: list[str] = []

    def execute_command(self, *command: Any, **options: Any) -> Any:
        self.go.wait(10)
        self.sent.append("alone")
        return self._redis.execute_command(*command, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, *, transaction: bool) -> Any:
        self.sent.append("together")
        return self._redis.pipeline(transaction=transaction)


@pytest.fixture
def held(redis: Redis) -> Held:
    return Held(redis)


@contextmanager
def asking(held: Held) -> Iterator[tuple[Together, Ask]]:
    """One command is on its way and waits; `ask` adds one that comes meanwhile."""
    together = Together(held)  # type: ignore[arg-type]
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(together.run, "SET", "first", 1)
        until("one leads", lambda: together._led and not together._waiting, 5)

        def ask(*command: Any) -> Future[Any]:
            before = len(together._waiting)
            asked = pool.submit(together.run, *command)
            until("it waits", lambda: len(together._waiting) > before, 5)
            return asked

        yield together, ask
        held.go.set()
        assert first.result(10) is True or first.result(10) == "OK"


def test_what_comes_while_one_is_on_its_way_goes_together(held: Held, redis: Redis) -> None:
    with asking(held) as (_, ask):
        asked = [ask("INCRBY", f"key-{number}", number) for number in range(20)]
        held.go.set()
        assert [one.result(10) for one in asked] == list(range(20))
    assert held.sent == ["alone", "together"]
    redis.flushdb()


def test_one_that_redis_refuses_fails_alone(held: Held, redis: Redis) -> None:
    with asking(held) as (_, ask):
        good, bad, other = ask("INCR", "a"), ask("NO-SUCH-COMMAND"), ask("INCR", "b")
        held.go.set()
        with pytest.raises(ResponseError, match="unknown command"):
            bad.result(10)
        assert (good.result(10), other.result(10)) == (1, 1)
    redis.flushdb()


def test_one_that_cant_be_written_fails_alone(held: Held, redis: Redis) -> None:
    with asking(held) as (_, ask):
        good, bad = ask("INCR", "a"), ask("SET", "b", "\ud800")
        held.go.set()
        with pytest.raises(UnicodeEncodeError):
            bad.result(10)
        assert good.result(10) == 1, "done once"
    redis.flushdb()


def test_an_answer_that_cant_be_read_is_not_asked_for_twice(held: Held, redis: Redis) -> None:
    with asking(held) as (_, ask):
        counted, bad = ask("INCR", "a"), ask("EVAL", "return '\\255'", 0)
        held.go.set()
        for one in (counted, bad):
            with pytest.raises(UnicodeDecodeError):
                one.result(10)
    assert redis.get("a") == "1"
    redis.flushdb()


def test_a_leader_that_is_interrupted_leaves_nobody_waiting(
    held: Held, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: bool) -> Any:
        raise KeyboardInterrupt

    with asking(held) as (together, ask):
        with monkeypatch.context() as patched:
            patched.setattr(held, "pipeline", interrupted)
            leader, other = ask("PING"), ask("PING")
            held.go.set()
            with pytest.raises(KeyboardInterrupt):
                leader.result(10)
            with pytest.raises(RedisConnectionError, match="interrupted"):
                other.result(10)
        assert together.run("PING")
    redis.flushdb()


class Payload(str):
    """A text that can be referred to weakly."""


def test_a_failed_command_is_not_kept(redis: Redis) -> None:
    together, payload = Together(redis), Payload("x" * 1_000)
    seen = weakref.ref(payload)
    gc.disable()
    try:
        with pytest.raises(ResponseError):
            together.run("NO-SUCH-COMMAND", payload)
        del payload
        assert seen() is None
    finally:
        gc.enable()


def test_a_lost_connection_is_told_to_all_and_the_next_go_on(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: bool) -> Any:
        raise RedisConnectionError("away")

    with asking(held) as (together, ask):
        monkeypatch.setattr(held, "pipeline", away)
        asked = [ask("PING") for _ in range(3)]
        held.go.set()
        for one in asked:
            with pytest.raises(RedisConnectionError):
                one.result(10)
        assert together.run("PING")
    held._redis.flushdb()


def test_each_thread_has_a_connection_however_many_there_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cache.PATIENCE", 30)
    for client in (connect(settings.redis_url), connect_cache(settings.redis_url)):
        with ThreadPoolExecutor(150) as pool:
            asked = [pool.submit(client.blpop, ["nothing"], 0.5) for _ in range(150)]
            assert [one.result(30) for one in asked] == [None] * 150
        client.close()


def test_many_threads_never_wait_for_one_that_has_gone(redis: Redis) -> None:
    together = Together(redis)

    def work(thread: int) -> list[int]:
        return [together.run("INCR", f"counted-{thread}") for _ in range(300)]

    with ThreadPoolExecutor(24) as pool:
        found = [one.result(60) for one in [pool.submit(work, thread) for thread in range(24)]]
    assert found == [list(range(1, 301))] * 24
    redis.flushdb()
