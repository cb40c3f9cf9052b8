"""How Podium's processes reach Redis, and what they say when they can't."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, TimeoutError
from redis.retry import Retry

from jobs.errors import StoreUnavailable

MANY = 10_000
"""Connections that a client may have: what bounds them is who asks at once. redis-py's own bound is 100."""

OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "max_connections": MANY,
}
PAUSES, RETRIES = ExponentialWithJitterBackoff(base=0.05, cap=1), 3
"""What a client does about a connection that is slow, or lost."""


def connect(url: str) -> "Redis":
    """A client for `url`; it connects at its first command and again after a lost connection."""
    return Redis.from_url(url, **OPTIONS, retry=Retry(PAUSES, RETRIES))


def connect_on_loop(url: str) -> "aioredis.Redis":
    """The same for asyncio."""
    return aioredis.Redis.from_url(url, **OPTIONS, retry=AsyncRetry(PAUSES, RETRIES))


@contextmanager
def available() -> Iterator[None]:
    """Raises `StoreUnavailable` in place of what a client says when Redis can't be used."""
    try:
        yield
    except (RedisConnectionError, TimeoutError) as error:
        raise StoreUnavailable("Redis can't be reached; try again shortly") from error
    except OutOfMemoryError as error:
        raise StoreUnavailable("Redis is full; try again later") from error
    except RedisError as error:
        if "LOADING" in str(error) or "MISCONF" in str(error):
            raise StoreUnavailable("Redis can't serve yet; try again shortly") from error
        raise
