"""Before and after the engine: scores of pairs that were scored before. Owns `podium:score:…` in Redis.

A pair is known by all that makes its score: the provenance, and exactly what the engine reads for it.
Whatever is wrong with Redis is a miss: the cache fails no job, and delays none by more than one failed call.
"""

import json
import logging
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs import keys
from jobs.connection import MANY
from jobs.scripts import Scripts, milliseconds
from jobs.settings import CacheSettings
from worker.engines.base import EngineInfo, Prompt
from worker.profiles import ModelProfile
from worker.prompts import Prompts
from worker.provenance import provenance

log = logging.getLogger(__name__)

SCORE = struct.Struct("<d")
AT_ONCE = 1_000
"""Scores that one command is for: a large job must not hold Redis up."""

BYTES = 120
"""What Redis needs for one score, about."""

PATIENCE = 1.0
"""Seconds for a call: scoring anew costs little more."""


def connect(url: str) -> "Redis":
    """A client that gives up at once, other than the store's."""
    never = Retry(NoBackoff(), 0)
    patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    return Redis.from_url(url, **patience, max_connections=MANY, retry=never)


@dataclass(frozen=True)
class Known:
    """What is known of one job's pairs: a score, or None. Without `keys` nothing new of it is kept."""

    pairs: Sequence[Prompt]
    scores: Sequence[float | None]
    keys: Sequence[str] = ()

    @property
    def hits(self) -> int:
        return len(self.scores) - self.scores.count(None)

    @property
    def missing(self) -> list[Prompt]:
        return [pair for pair, score in zip(self.pairs, self.scores, strict=True) if score is None]

    def with_those(self, fresh: Sequence[float]) -> list[float]:
        """All scores, `fresh` being those that were missing."""
        rest = iter(fresh)
        return [next(rest) if score is None else score for score in self.scores]


def nothing_known(built: Prompts) -> Known:
    """For a job that wants its pairs scored anew."""
    pairs = built.pairs
    return Known(pairs, [None] * len(pairs))


class Cache:
    """`redis` answers in bytes. Thread-safe."""

    def __init__(
        self, redis: "Redis", profile: ModelProfile, info: EngineInfo, settings: CacheSettings
    ) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._maker = _maker(profile, info)
        self._settings = settings
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("hits", "misses", "stored"), 0)

    def statistics(self) -> dict[str, int]:
        """Since the worker's start: `hits` and `misses` in pairs, and how many scores were `stored`."""
        with self._lock:
            return dict(self._counts)

    def look_up(self, built: Prompts) -> Known:
        """What Redis has of the job's pairs, in one round trip."""
        pairs = built.pairs
        names = self._names(pairs, built.query)
        reads = self._redis.pipeline(transaction=False)
        for start in range(0, len(names), AT_ONCE):
            reads.mget(names[start : start + AT_ONCE])
        try:
            answers: list[list[bytes | None]] = reads.execute()
        except RedisError as error:
            log.warning("no scores can be looked up: %s", error)
            return nothing_known(built)  # nor is it tried to keep new ones
        scores = [None if s is None else SCORE.unpack(s)[0] for answer in answers for s in answer]
        known = Known(pairs, scores, names)
        self._count(hits=known.hits, misses=len(scores) - known.hits)
        return known

    def store(self, known: Known, fresh: Sequence[float]) -> None:
        """Keeps the scores that were missing, for the TTL, in one round trip for each thousand.

        What is no number is never kept: the next job tries again.
        """
        if not known.keys:
            return
        missing = [name for name, score in zip(known.keys, known.scores, strict=True) if score is None]
        new = {name: score for name, score in zip(missing, fresh, strict=True) if math.isfinite(score)}
        names = list(new)
        about = [milliseconds(self._settings.ttl), self._settings.memory_share, BYTES]
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            try:
                kept = self._scripts.run(
                    "remember", some, [*about, *(SCORE.pack(new[name]) for name in some)]
                )
            except RedisError as error:
                log.warning("scores are not kept: %s", error)
                return
            self._count(stored=kept)

    def _names(self, pairs: Sequence[Prompt], query: Prompt | None) -> list[str]:
        made = self._maker.copy()
        made.update(b"" if query is None else query.digest)
        names = []
        for pair in pairs:
            digest = made.copy()
            digest.update(pair.digest)
            names.append(keys.score(digest.hexdigest()))
        return names

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number


def _maker(profile: ModelProfile, info: EngineInfo) -> Any:
    """A hash of what makes a score, but for what the engine reads; the instruction is in that."""
    made = provenance(profile, info, None, "", 0).model_dump(exclude={"instruction", "worker", "attempt"})
    made |= profile.model_dump(include={"kind", "score", "hf_overrides"})
    return blake2b(json.dumps(made, sort_keys=True).encode(), digest_size=16)
