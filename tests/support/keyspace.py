"""Reads what a Redis key holds, whatever its type."""

from typing import Any

import zstandard
from redis import Redis


def held(redis: Redis, key: str) -> str:
    """All of the key's content as text. (`DUMP` would not do: it compresses.)"""
    reader: dict[str, Any] = {
        "string": lambda: _text(redis, key),
        "list": lambda: redis.lrange(key, 0, -1),
        "set": lambda: redis.smembers(key),
        "zset": lambda: redis.zrange(key, 0, -1, withscores=True),
        "hash": lambda: redis.hgetall(key),
        "none": lambda: "",
    }
    return str(reader[str(redis.type(key))]())


def _text(redis: Redis, key: str) -> str:
    """A string's content, unpacked if it is compressed."""
    call: Any = redis.execute_command
    value: bytes = call("GET", key, NEVER_DECODE=True)
    packed = value.startswith(zstandard.FRAME_HEADER)
    return (zstandard.decompress(value) if packed else value).decode()


def keys(redis: Redis) -> list[str]:
    return sorted(str(key) for key in redis.scan_iter("*", count=1000))
