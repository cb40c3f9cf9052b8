"""Scores of pairs that were scored before, kept in a real Valkey."""

import itertools
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from api.app import create_app
from jobs.model import Document, DocumentStatus, Overflow, Result, Work
from jobs.settings import CacheSettings, Settings
from jobs.states import JobState
from jobs.store import Store
from tests.conftest import LEASE, new_job
from tests.support.ports import free_port
from worker.cache import AT_ONCE, BYTES, Cache, connect
from worker.engines.base import EngineInfo, Prompt
from worker.engines.fake import MURDER, FakeEngine
from worker.profiles import ModelProfile, load
from worker.prompts import Prompts, build
from worker.readings import Reading
from worker.runner import Ended, Runner

MIB = 1024 * 1024
numbers = itertools.count()


@pytest.fixture
def qwen(settings: Settings) -> ModelProfile:
    """A model that reads query, instruction and document together."""
    return load("qwen3-reranker-0.6b", settings.models_dir)


def result_of(runner: Runner, store: Store, **job: Any) -> Result:
    """Of a new job that has run."""
    job_id = f"job-{next(numbers)}"
    store.create(new_job(job_id, **job))
    assert runner.run(job_id) is Ended.SUCCEEDED
    found = store.get(job_id)
    assert found is not None
    assert found.result is not None
    assert found.scored == found.total
    return found.result


def scores(result: Result) -> list[bytes]:
    """To the bit, in the order of the ranking."""
    return [struct.pack("<d", entry.relevance_score) for entry in result.results]


def steps(runner: Runner) -> float:
    return runner.engine.statistics()["steps"]


def kept(redis: Redis) -> list[str]:
    return [str(key) for key in redis.scan_iter("podium:score:*")]


def cache_of(runner: Runner, settings: CacheSettings, url: str | None = None) -> Cache:
    redis = connect(url or runner.settings.redis_url)
    return Cache(redis, runner.profile, runner.engine.info, settings)


def with_cache(runner: Runner, **changes: Any) -> Runner:
    cache = runner.settings.cache.model_copy(update=changes)
    settings = runner.settings.model_copy(update={"cache": cache})
    return replace(runner, settings=settings, cache=cache_of(runner, cache))


def test_a_second_run_of_a_job_has_equal_scores_to_the_bit_and_no_step_of_the_engine(
    runner: Runner, store: Store
) -> None:
    first = result_of(runner, store)
    before = steps(runner)
    second = result_of(runner, store)
    assert steps(runner) == before
    assert scores(second) == scores(first)
    assert [entry.index for entry in second.results] == [entry.index for entry in first.results]
    assert (first.usage.cached, second.usage.cached) == (0, 3)
    assert second.usage.total_tokens == first.usage.total_tokens, "what the job is made of, not what it cost"
    assert runner.cache.statistics() == {"hits": 3, "misses": 3, "stored": 3}
    assert 0 <= second.timings.engine < 0.05


def test_the_engine_is_asked_only_for_what_is_missing(runner: Runner, store: Store) -> None:
    result_of(runner, store, documents=("one", "two"))
    before = runner.engine.statistics()["tokens"]
    mixed = result_of(runner, store, documents=("two", "three three", "one"))
    assert runner.engine.statistics()["tokens"] - before == 2 + 2, "the query, and one document"
    assert mixed.usage.cached == 2
    alone = result_of(runner, store, documents=("three three",), cache=False)
    assert alone.results[0].relevance_score in [entry.relevance_score for entry in mixed.results]


def test_every_score_has_a_ttl(runner: Runner, store: Store, redis: Redis) -> None:
    result_of(with_cache(runner, ttl=timedelta(seconds=100)), store)
    assert len(kept(redis)) == 3
    assert all(90 < int(redis.ttl(key)) <= 100 for key in kept(redis))


def test_equal_documents_of_one_job_are_read_and_kept_once(
    runner: Runner, store: Store, redis: Redis
) -> None:
    found = result_of(runner, store, documents=("same", "same", "same"))
    assert len({entry.relevance_score for entry in found.results}) == 1
    assert found.usage.shared == 2
    assert len(kept(redis)) == 1


def test_a_job_that_says_no_is_scored_anew_and_leaves_nothing(
    runner: Runner, store: Store, redis: Redis
) -> None:
    result_of(runner, store, documents=("one",))
    before = runner.engine.statistics()["tokens"]
    found = result_of(runner, store, documents=("one", "one", "two"), cache=False)
    assert runner.engine.statistics()["tokens"] - before == 2 + 3, "the query, and each document"
    assert (found.usage.cached, found.usage.shared) == (0, 0)
    assert len(kept(redis)) == 1


def test_switched_off_no_job_reads_or_keeps_a_score(runner: Runner, store: Store, redis: Redis) -> None:
    result_of(runner, store)
    redis.delete(*kept(redis))
    off = with_cache(runner, enabled=False)
    before = steps(off)
    found = [result_of(off, store, documents=("same", "same")) for _ in range(2)]
    assert steps(off) > before
    assert [(result.usage.cached, result.usage.shared) for result in found] == [(0, 0)] * 2
    assert kept(redis) == []
    assert off.cache.statistics() == {"hits": 0, "misses": 0, "stored": 0}


def test_a_request_may_say_no_and_a_retry_says_it_too(settings: Settings, redis: Redis, store: Store) -> None:
    assert redis.dbsize() == 0
    with TestClient(create_app(settings, page=False)) as client:
        body = {"query": "q", "documents": ["d"], "cache": False}
        job_id = client.post("/v1/jobs", json=body).json()["id"]
        assert client.post("/v1/jobs", json={**body, "cache": "no"}).status_code == 422
    work = store.work(job_id)
    assert work is not None
    assert work.cache is False


CHANGES: dict[str, Callable[[ModelProfile, EngineInfo, Work], tuple[ModelProfile, EngineInfo, Work]]] = {
    "revision": lambda p, i, w: (p, replace(i, revision="other"), w),
    "source": lambda p, i, w: (p, replace(i, source="other"), w),
    "dtype": lambda p, i, w: (p, replace(i, dtype="bfloat16"), w),
    "engine": lambda p, i, w: (p, replace(i, name="other"), w),
    "engine version": lambda p, i, w: (p, replace(i, version="2"), w),
    "batch invariance": lambda p, i, w: (p, replace(i, batch_invariant=True), w),
    "model": lambda p, i, w: (p.model_copy(update={"name": "other"}), i, w),
    "template": lambda p, i, w: (p.model_copy(update={"template_hash": "other"}), i, w),
    "score": lambda p, i, w: (p.model_copy(update={"score": "sigmoid"}), i, w),
    "query": lambda p, i, w: (p, i, w.model_copy(update={"query": "another query"})),
    "instruction": lambda p, i, w: (p, i, w.model_copy(update={"instruction": "what else"})),
    "truncation": lambda p, i, w: (p, i, w.model_copy(update={"max_tokens_per_doc": 2})),
    "document": lambda p, i, w: (p, i, w.model_copy(update={"documents": (Document(text="c b a d"),)})),
}
WORK = Work(query="a query", documents=(Document(text="a b c d"),))


@pytest.mark.parametrize("what", CHANGES)
def test_another_revision_dtype_instruction_query_or_truncation_is_a_miss(
    what: str, settings: Settings, redis: Redis, qwen: ModelProfile
) -> None:
    assert redis.dbsize() == 0
    engine = FakeEngine()
    client = connect(settings.redis_url)

    def looked_up(profile: ModelProfile, info: EngineInfo, work: Work) -> tuple[float | None, ...]:
        built = build(work, profile, engine.tokenizer, info.max_tokens)
        cache = Cache(client, profile, info, settings.cache)
        known = cache.look_up(built)
        cache.store(known, [0.5] * len(known.missing))
        return tuple(known.scores)

    assert looked_up(qwen, engine.info, WORK) == (None,)
    assert looked_up(qwen, engine.info, WORK) == (0.5,)
    assert looked_up(*CHANGES[what](qwen, engine.info, WORK)) == (None,)
    client.close()


def test_another_query_is_a_miss_for_a_model_that_reads_it_by_itself(runner: Runner, store: Store) -> None:
    one = result_of(runner, store, query="blue sky")
    other = result_of(runner, store, query="red apple")
    assert other.usage.cached == 0
    assert scores(other) != scores(one)


def test_each_window_of_a_document_is_a_pair(runner: Runner, store: Store, redis: Redis) -> None:
    long = " ".join(f"word-{n}" for n in range(60))
    work = Work(query="q", documents=(Document(text=long),), overflow=Overflow.CHUNK, max_tokens_per_doc=16)
    for number in range(2):
        store.create(new_job(f"long-{number}").model_copy(update={"work": work}))
        assert runner.run(f"long-{number}") is Ended.SUCCEEDED
    first, second = (store.get(f"long-{number}") for number in range(2))
    assert first is not None
    assert second is not None
    assert first.result is not None
    assert second.result is not None
    windows = first.result.results[0].windows
    assert windows is not None
    assert windows > 2
    assert second.result.usage.cached == windows == len(kept(redis))
    assert second.result.results == first.result.results


def pairs(count: int) -> Prompts:
    return Prompts([Reading(str(n), (Prompt([n]),)) for n in range(count)])


def test_a_large_job_is_looked_up_and_kept_in_pieces(runner: Runner, redis: Redis) -> None:
    built = pairs(2 * AT_ONCE + 7)
    values = [n / 7 for n in range(2 * AT_ONCE + 7)]
    runner.cache.store(runner.cache.look_up(built), values)
    assert len(kept(redis)) == len(values)
    assert runner.cache.look_up(built).scores == values


def test_what_is_no_number_is_never_kept(runner: Runner) -> None:
    runner.cache.store(runner.cache.look_up(pairs(4)), [math.nan, math.inf, -math.inf, 1.5])
    assert runner.cache.look_up(pairs(4)).scores == [None, None, None, 1.5]
    assert runner.cache.statistics()["stored"] == 1


def test_a_document_without_a_score_is_scored_anew_by_the_next_job(
    runner: Runner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = runner.engine.step
    with monkeypatch.context() as broken:
        broken.setattr(runner.engine, "step", lambda: [(key, [0.0] * 512) for key, _ in step()])
        found = result_of(runner, store)
    assert {entry.status for entry in found.results} == {DocumentStatus.FAILED}
    again = result_of(runner, store)
    assert {entry.status for entry in again.results} == {DocumentStatus.OK}
    assert again.usage.cached == 0


@contextmanager
def maxmemory(redis: Redis, share: float) -> Iterator[None]:
    """While the block runs, this share of Redis' memory is used."""
    about: dict[str, int] = redis.info("memory")
    redis.config_set("maxmemory", round(about["used_memory"] / share))
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


@pytest.mark.parametrize(("share", "some"), [(0.3, True), (0.6, False), (2.0, False)])
def test_above_its_share_of_memory_nothing_more_is_kept_and_the_job_is_scored(
    runner: Runner, store: Store, redis: Redis, share: float, some: bool
) -> None:
    """The share is 0.5. At 2.0 Redis is full to the brim: it refuses the script."""
    job_id = "job-full"
    store.create(new_job(job_id))
    redis.setrange("ballast", 8 * MIB, "x")
    with maxmemory(redis, share):
        assert runner.run(job_id) is Ended.SUCCEEDED
    assert bool(kept(redis)) is some
    redis.delete("ballast")


def test_a_redis_that_is_away_is_only_a_miss_and_asked_once_for_a_job(
    runner: Runner, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    away = cache_of(runner, runner.settings.cache, url=f"redis://127.0.0.1:{free_port()}/0")
    found = result_of(replace(runner, cache=away), store)
    assert found.usage.cached == 0
    assert [r.message.partition(":")[0] for r in caplog.records if r.name == "worker.cache"] == [
        "no scores can be looked up"
    ]
    assert away.statistics() == {"hits": 0, "misses": 0, "stored": 0}


def test_a_redis_that_was_started_anew_is_taught_the_script_again(runner: Runner, redis: Redis) -> None:
    runner.cache.store(runner.cache.look_up(pairs(1)), [0.25])
    redis.script_flush()
    runner.cache.store(runner.cache.look_up(pairs(2)), [0.75])
    assert runner.cache.look_up(pairs(2)).scores == [0.25, 0.75]


def test_a_job_whose_pairs_are_all_known_ends_although_the_worker_leaves(
    runner: Runner, store: Store
) -> None:
    result_of(runner, store)
    runner.coalescer.hand_back()
    assert result_of(runner, store).usage.cached == 3


def test_a_suspect_is_read_alone_but_for_what_is_known(runner: Runner, store: Store, redis: Redis) -> None:
    """Known pairs can kill no engine: of those alone it is not even noted that the engine has the job."""
    result_of(runner, store)
    for job_id, documents, noted in (
        ("known", ("blue sky", "red apple"), None),
        ("half", ("blue sky", "new"), "1"),
    ):
        store.create(new_job(job_id, documents=documents))
        claim = store.claim(job_id, "worker-1", LEASE)
        assert hasattr(claim, "generation")
        store.release(job_id, claim.generation, charge=True)
        assert runner.run(job_id) is Ended.SUCCEEDED
        assert redis.hget(f"podium:job:{job_id}", "inside") == noted
        job = store.get(job_id)
        assert job is not None
        assert job.state is JobState.SUCCEEDED


def test_what_killed_the_engine_is_not_kept(runner: Runner, store: Store, redis: Redis) -> None:
    store.create(new_job("murderer", documents=("good", MURDER)))
    assert runner.run("murderer") is Ended.HANDED_BACK
    assert kept(redis) == []


def test_a_score_takes_about_as_much_memory_as_is_reckoned_with(runner: Runner, redis: Redis) -> None:
    count = 5_000
    before: dict[str, int] = redis.info("memory")
    runner.cache.store(runner.cache.look_up(pairs(count)), [0.5] * count)
    after: dict[str, int] = redis.info("memory")
    assert 0.5 * BYTES < (after["used_memory"] - before["used_memory"]) / count < 1.5 * BYTES
