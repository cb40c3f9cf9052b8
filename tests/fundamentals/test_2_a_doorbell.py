"""Second: Celery carries a doorbell. A message is a job's id, and losing one loses nothing."""

import json
from datetime import timedelta

from redis import Redis

from jobs.model import Lane
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.store import Store
from tests.conftest import new_job
from worker.sweeper import Sweeper


def test_a_message_is_the_jobs_id_and_nothing_else(store: Store, doorbell: Doorbell, redis: Redis) -> None:
    store.create(new_job())
    doorbell.announce("job-1", "minilm", Lane.INTERACTIVE)
    (raw,) = redis.lrange("score.minilm.interactive", 0, -1)
    message = json.loads(raw)
    assert message["headers"]["id"] == "job-1"
    assert message["headers"]["argsrepr"] == "['job-1']"
    assert "blue sky" not in raw


def test_the_sweeper_rings_for_a_job_that_nobody_announced(
    redis: Redis, doorbell: Doorbell, settings: Settings
) -> None:
    Store(redis).create(new_job())
    ten_seconds_later = Store(redis, offset=timedelta(seconds=10))
    Sweeper(ten_seconds_later, doorbell, settings).sweep()
    assert doorbell.ringing("minilm", Lane.INTERACTIVE) == 1
