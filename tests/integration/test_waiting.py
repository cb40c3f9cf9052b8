"""The one subscription that all waiting requests share, when Redis or the way to it fails."""

import asyncio
from contextlib import suppress

import pytest
from redis import Redis

from api import waiting
from api.looking import Looks
from api.waiting import Waiting
from jobs import keys
from jobs.async_store import AsyncStore
from jobs.settings import Settings
from jobs.store import Store
from tests.support.waiting import until


def test_a_subscription_that_answers_nothing_any_more_is_made_anew(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE", 0.1)
    connections = 0
    again = asyncio.Event()

    async def falls_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the subscription, and says no more."""
        nonlocal connections
        connections += 1
        if connections == 2:
            again.set()
        while said := await reader.read(1 << 16):
            writer.write(b"+OK\r\n" * said.count(b"SETINFO"))
            if b"SUBSCRIBE" in said:
                for number, channel in enumerate(waiting.ENDS, start=1):
                    name = channel.encode()
                    writer.write(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:%d\r\n" % (len(name), name, number))
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(falls_silent, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2"
        waits = Waiting(url, Looks(AsyncStore(store, settings.redis_url), settings))
        async with waits.listening():
            with waits.watched("job-1") as told:
                await asyncio.wait_for(told.wait(), 10)
            await asyncio.wait_for(again.wait(), 10)
        server.close()

    asyncio.run(scenario())
    assert connections >= 2


def test_a_quiet_subscription_lives_on(
    settings: Settings, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shorter than a busy machine's pauses, and the subscription would be lost rightly.
    monkeypatch.setattr(waiting, "SILENCE", 1.0)
    waits = Waiting(settings.redis_url, Looks(AsyncStore(store, settings.redis_url), settings))

    def pings() -> int:
        return int(redis.info("commandstats").get("cmdstat_ping", {}).get("calls", 0))

    def subscriptions() -> set[str]:
        return {client["id"] for client in redis.client_list(_type="pubsub")}

    async def scenario() -> tuple[set[str], set[str], bool]:
        async with waits.listening():
            with waits.watched("job-1") as told:
                await asyncio.wait_for(told.wait(), 5)  # the subscription stands: whoever waits looks once
                told.clear()
                before, asked = subscriptions(), pings()
                await asyncio.to_thread(until, "it was asked twice", lambda: pings() >= asked + 2, 30)
                after = subscriptions()
                redis.publish(f"{keys.EVENTS}succeeded", "job-1")
                with suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), 5)
                return before, after, told.is_set()
        raise AssertionError

    before, after, told = asyncio.run(scenario())
    assert before
    assert before <= after
    assert told
