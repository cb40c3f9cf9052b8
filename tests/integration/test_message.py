"""A doorbell's message is Celery's own, though Celery makes it once only."""

import json
from base64 import b64decode
from typing import Any

from redis import Redis

from jobs.model import Lane
from jobs.queue import CALLBACKS, SCORE, Doorbell, make_app, queue_name
from jobs.settings import Settings


def test_it_says_what_celery_itself_would_send(doorbell: Doorbell, redis: Redis, settings: Settings) -> None:
    queue, app = queue_name("minilm", Lane.BULK), make_app(settings)
    doorbell.announce("job-1", "minilm", Lane.BULK)
    app.send_task(SCORE, args=["job-1"], task_id="job-1", queue=queue)
    celerys, ours = (_read(str(message)) for message in redis.lrange(queue, 0, -1))
    assert ours == celerys
    app.close()


def test_a_job_announced_twice_has_two_messages(doorbell: Doorbell, redis: Redis) -> None:
    for _ in range(2):
        doorbell.announce_callback("job-1")
    tags = {json.loads(message)["properties"]["delivery_tag"] for message in redis.lrange(CALLBACKS, 0, -1)}
    assert len(tags) == 2


def _read(message: str) -> dict[str, Any]:
    """A message without what is another's each time."""
    found: dict[str, Any] = json.loads(message)
    found["body"] = json.loads(b64decode(found["body"]))
    for name in ("delivery_tag", "reply_to"):
        found["properties"].pop(name)
    return found
