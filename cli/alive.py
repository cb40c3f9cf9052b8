"""`podium worker alive`: does a worker of this host take jobs? Its heartbeat in Redis tells."""

import socket

from jobs.connection import connect
from jobs.errors import PodiumError
from jobs.settings import Settings
from jobs.store import Store


class NoWorker(PodiumError):
    """No worker of this host has a heartbeat."""

    code = "no_worker"


def alive(settings: Settings) -> int:
    """0 if there is one. Raises `NoWorker` if not, `StoreUnavailable` if Redis can't say."""
    redis = connect(settings.redis_url)
    try:
        names = [str(worker["name"]) for worker in Store(redis).workers()]
    finally:
        redis.close()
    host = socket.gethostname()
    if not any(name.rpartition("@")[2] == host for name in names):
        raise NoWorker(f"no worker of {host} has a heartbeat in Redis: it starts, or has stopped")
    return 0
