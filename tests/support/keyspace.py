"""What lies in Redis: what a key holds, which keys nothing will end, and whether its file has all."""

from typing import Any

import zstandard
from redis import Redis

from jobs import keys as keys_of
from jobs.states import JobState
from tests.support.waiting import until


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


def leaked(redis: Redis) -> list[str]:
    """Podium's keys that nothing will end: no TTL, and no open job or list that owns them."""
    found = []
    for key in keys(redis):
        if not key.startswith("podium:") or int(redis.ttl(key)) > 0:
            continue
        kind, _, rest = key.removeprefix("podium:").partition(":")
        match kind:
            case "job" | "work":
                state = redis.hget(f"podium:job:{rest}", "state")
                owned = state is not None and not JobState(str(state)).terminal
            case "jobs" | "queued":
                owned = int(redis.zcard(key)) > 0  # its members are checked as jobs
            case "running" | "unannounced" | "deadlines":
                open_ = [
                    redis.hget(f"podium:job:{member}", "state")
                    for member in map(str, redis.zrange(key, 0, -1))
                ]
                owned = all(state is not None and not JobState(str(state)).terminal for state in open_)
            case "lane":
                owned = rest.count(":") == 1  # one for each lane
            case _:
                owned = key in (keys_of.LANES, keys_of.ENDED, keys_of.CALLBACKS)
        if not owned:
            found.append(key)
    return found


def until_written(redis: Redis) -> None:
    """Until all that it has answered for is in its file, where a `kill -9` can't reach it.

    While the disk is busy with a forced write, a server that forces one a second may hold back what comes.
    """

    def written() -> bool:
        about: dict[str, int] = redis.info("persistence")
        return about["aof_pending_bio_fsync"] == 0  # what was held back is written before this answer

    until("its file has all", written, 20)


def keys(redis: Redis) -> list[str]:
    return sorted(str(key) for key in redis.scan_iter("*", count=1000))
