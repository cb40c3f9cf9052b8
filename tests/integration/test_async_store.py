"""The store on asyncio's loop: what is asked at the same moment goes together, and each fails alone."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import async_store
from jobs.async_store import LARGE, AsyncStore
from jobs.errors import QueueFull, StoreUnavailable
from jobs.message import Message
from jobs.model import Document, Job
from jobs.settings import Settings
from jobs.states import Outcome
from jobs.store import UNBOUNDED, Store
from tests.conftest import new_job
from worker.runner import Runner

MESSAGE = Message("a-list", "told")


def on_a_loop(store: Store, settings: Settings, scenario: Callable[[AsyncStore], Awaitable[None]]) -> None:
    async def run() -> None:
        jobs = AsyncStore(store, settings.redis_url)
        try:
            await asyncio.wait_for(scenario(jobs), 30)
        finally:
            await jobs.close()

    asyncio.run(run())


def counted(jobs: AsyncStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each pipeline had that was sent."""
    sent: list[int] = []
    pipeline = jobs._redis.pipeline

    def noted(**options: Any) -> Any:
        made: Any = pipeline(**options)
        execute = made.execute

        async def execute_noted(**options: Any) -> Any:
            sent.append(len(made.command_stack))
            return await execute(**options)

        made.execute = execute_noted
        return made

    monkeypatch.setattr(jobs._redis, "pipeline", noted)
    return sent


def test_requests_of_one_moment_share_a_round_trip(
    store: Store, settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        await jobs.create(new_job("first"), UNBOUNDED, MESSAGE)
        await jobs.get("first")  # the scripts are there now
        sent = counted(jobs, monkeypatch)
        made = await asyncio.gather(*(jobs.create(new_job(f"job-{n}"), UNBOUNDED, MESSAGE) for n in range(9)))
        assert all(isinstance(job, Job) for job in made)
        found = await asyncio.gather(*(jobs.get(f"job-{n}") for n in range(10)))
        assert [job and job.id for job in found] == [f"job-{n}" for n in range(9)] + [None]
        assert sent == [9, 10]

    on_a_loop(store, settings, scenario)
    assert redis.llen("a-list") == 10


def test_its_answers_are_the_stores(store: Store, settings: Settings) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        job = new_job().model_copy(update={"tokens": 7})
        first = await jobs.create(job, UNBOUNDED, MESSAGE)
        second = await jobs.create(job, UNBOUNDED, MESSAGE)
        assert isinstance(first, Job)
        assert second is Outcome.REFUSED
        with pytest.raises(QueueFull):
            await jobs.create(job.model_copy(update={"id": "job-2"}), UNBOUNDED._replace(tokens=10), MESSAGE)
        assert await jobs.get("job-1") == store.get("job-1")

    on_a_loop(store, settings, scenario)


def test_a_redis_that_was_started_anew_is_given_its_scripts_once_however_many_ask(
    store: Store, settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        redis.script_flush()
        sent = counted(jobs, monkeypatch)
        asked = (jobs.create(new_job(f"job-{n}"), UNBOUNDED, MESSAGE) for n in range(250))
        assert all(isinstance(job, Job) for job in await asyncio.gather(*asked))
        assert sent == [100, 1 + 100, 100, 50]

    on_a_loop(store, settings, scenario)
    assert redis.llen("a-list") == 250


def test_a_job_that_cant_be_written_fails_alone(store: Store, settings: Settings) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        bad, good = await asyncio.gather(
            jobs.get("\ud800"), jobs.create(new_job(), UNBOUNDED, MESSAGE), return_exceptions=True
        )
        assert isinstance(bad, UnicodeEncodeError)
        assert isinstance(good, Job)

    on_a_loop(store, settings, scenario)


def test_a_lost_connection_is_told_to_all_and_the_next_go_on(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: bool) -> Any:
        raise RedisConnectionError("away")

    async def scenario(jobs: AsyncStore) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(jobs._redis, "pipeline", away)
            answers = await asyncio.gather(*(jobs.get("job-1") for _ in range(3)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        assert await jobs.get("job-1") is None

    on_a_loop(store, settings, scenario)


class Payload(str):
    """A text that can be referred to weakly."""


def test_a_failed_call_is_not_kept(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: bool) -> Any:
        raise RedisConnectionError("away")

    async def scenario(jobs: AsyncStore) -> None:
        monkeypatch.setattr(jobs._redis, "pipeline", away)
        payload = Payload("job-1")
        seen = weakref.ref(payload)
        with pytest.raises(StoreUnavailable):
            await jobs.get(payload)
        del payload
        await asyncio.sleep(0)
        assert seen() is None

    gc.disable()
    try:
        on_a_loop(store, settings, scenario)
    finally:
        gc.enable()


def test_what_nobody_waits_for_any_more_is_not_sent(store: Store, settings: Settings) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        first = asyncio.ensure_future(jobs.get("job-0"))
        await asyncio.sleep(0)  # on its way
        leaves = asyncio.ensure_future(jobs.create(new_job(), UNBOUNDED, MESSAGE))
        await asyncio.sleep(0)  # waits for it
        leaves.cancel()
        await first
        assert await jobs.get("job-1") is None

    on_a_loop(store, settings, scenario)


def test_closing_ends_who_waits_and_it_can_be_used_again(store: Store, settings: Settings) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        waits = [asyncio.ensure_future(jobs.get("job-1")) for _ in range(2)]
        await asyncio.sleep(0)
        waits.append(asyncio.ensure_future(jobs.get("job-2")))
        await jobs.close()
        assert {type(end) for end in await asyncio.gather(*waits, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        assert await jobs.get("job-1") is None

    on_a_loop(store, settings, scenario)


def test_a_sender_that_ends_unforeseen_leaves_nobody_waiting(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise AssertionError

    async def scenario(jobs: AsyncStore) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(jobs, "_answers", broken)
            (end,) = await asyncio.gather(jobs.get("job-1"), return_exceptions=True)
            assert isinstance(end, asyncio.CancelledError)
        assert await jobs.get("job-1") is None

    on_a_loop(store, settings, scenario)


def test_one_who_leaves_takes_nothing_from_the_others(store: Store, settings: Settings) -> None:
    async def scenario(jobs: AsyncStore) -> None:
        store.create(new_job())
        leaves, stays = (asyncio.ensure_future(jobs.get("job-1")) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        assert await stays == store.get("job-1")
        assert leaves.cancelled()
        assert await jobs.get("job-1") == store.get("job-1")

    on_a_loop(store, settings, scenario)


@pytest.mark.parametrize(("size", "aside"), [(10, False), (LARGE // 4 + 1, True)])
def test_a_large_job_is_written_by_a_thread_so_that_others_do_not_wait_for_it(
    size: int, aside: bool, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote: list[threading.Thread] = []
    creation = store.creation

    def noted(*args: Any) -> Any:
        wrote.append(threading.current_thread())
        return creation(*args)

    monkeypatch.setattr(store, "creation", noted)

    async def scenario(jobs: AsyncStore) -> None:
        await jobs.create(new_job().model_copy(update={"tokens": size}), UNBOUNDED, MESSAGE)

    on_a_loop(store, settings, scenario)
    assert [thread is not threading.main_thread() for thread in wrote] == [aside]


@pytest.mark.parametrize("aside", [False, True])
def test_a_large_result_is_read_by_a_thread(
    aside: bool, runner: Runner, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(new_job())
    runner.run("job-1")
    if aside:
        monkeypatch.setattr(async_store, "LARGE", 500)
    read_by: list[threading.Thread] = []
    reading = store.reading

    def noted(job_id: str) -> Any:
        question = reading(job_id)

        def read(answer: Any) -> Job | None:
            read_by.append(threading.current_thread())
            return question.read(answer)

        return question._replace(read=read)

    monkeypatch.setattr(store, "reading", noted)

    async def scenario(jobs: AsyncStore) -> None:
        job = await jobs.get("job-1")
        assert job is not None
        assert job.result is not None

    on_a_loop(store, settings, scenario)
    assert [thread is not threading.main_thread() for thread in read_by] == [aside]


def test_a_job_with_much_metadata_is_large(store: Store, settings: Settings) -> None:
    async def aside(size: int, call: Any, *args: Any) -> Any:
        sizes.append(size)
        return call(*args)

    async def scenario(jobs: AsyncStore) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(async_store, "_aside", aside)
            for metadata in (None, {"a": 1}):
                job = new_job(f"job-{metadata}", ("d",) * 100)
                documents = tuple(Document(text=d.text, metadata=metadata) for d in job.work.documents)
                work = job.work.model_copy(update={"documents": documents})
                await jobs.create(job.model_copy(update={"work": work}), UNBOUNDED, MESSAGE)

    sizes: list[int] = []
    on_a_loop(store, settings, scenario)
    assert [size > LARGE for size in sizes] == [False, False, True, False]
