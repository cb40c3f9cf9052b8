"""Flower hears of each announcement, though events are published together."""

import base64
import json
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.client import PubSub

from jobs.model import Lane
from jobs.queue import Doorbell
from tests.support.waiting import until

SUBSCRIBED, EVENT = "psubscribe", "pmessage"


@pytest.fixture
def published(redis: Redis) -> Iterator[PubSub]:
    """What goes over the channels of Celery's events."""
    with redis.pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.psubscribe("*celeryev*")
        until("subscribed", lambda: (listener.get_message(timeout=1) or {}).get("type") == SUBSCRIBED, 5)
        yield listener


def test_each_announcement_is_told_of_and_many_in_one_message(doorbell: Doorbell, published: PubSub) -> None:
    announced = [f"told-{number}" for number in range(20)]
    for job_id in announced:
        doorbell.announce(job_id, "minilm", Lane.BULK)
    told: list[str] = []
    messages = 0

    def all_told() -> bool:
        nonlocal messages
        message = published.get_message(timeout=0.1)
        if message is not None and message["type"] == EVENT:
            events = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            ours = [event["uuid"] for event in events if event["uuid"] in announced]  # not an earlier test's
            told.extend(ours)
            messages += bool(ours)
        return len(told) >= len(announced)

    until("every event", all_told, 5)
    assert told == announced
    assert messages < len(announced) / 2
