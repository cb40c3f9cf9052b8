"""Reads what a Redis key holds, whatever its type."""

from typing import Any

from redis import Redis


def held(redis: Redis, key: str) -> str:
    """All of the key's content as text. (`DUMP` would not do: it compresses.)"""
    reader: dict[str, Any] = {
        "string": lambda: redis.get(key),
        "list": lambda: redis.lrange(key, 0, -1),
        "set": lambda: redis.smembers(key),
        "zset": lambda: redis.zrange(key, 0, -1, withscores=True),
        "hash": lambda: redis.hgetall(key),
        "none": lambda: "",
    }
    return str(reader[str(redis.type(key))]())


def keys(redis: Redis) -> list[str]:
    return sorted(str(key) for key in redis.scan_iter("*", count=1000))
