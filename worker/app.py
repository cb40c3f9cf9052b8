"""A worker process from start to end: its parts are put together here and run inside Celery.

Two roles. `score` has an engine and takes jobs; `callbacks` has none, delivers callbacks and sweeps. Celery's
threads pool runs both: a vLLM engine can't start in a prefork child, and a job's thread only waits.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import celery.worker.state
from celery import Celery, signals

from jobs.connection import connect
from jobs.errors import ConfigurationError
from jobs.model import Lane
from jobs.queue import CALLBACKS, Doorbell, make_app, queue_name
from jobs.settings import Settings
from jobs.store import Store
from worker import golden, profiles
from worker.cache import Cache
from worker.cache import connect as connect_cache
from worker.coalescer import Coalescer
from worker.counts import Counts
from worker.delivery import Delivery
from worker.egress import Egress
from worker.engines.base import Engine, EngineInfo
from worker.engines.fake import STEP_TOKENS, FakeEngine
from worker.engines.thread import EngineThread
from worker.events import EventsTogether
from worker.heartbeat import Heartbeat
from worker.lanes import InteractiveFirst
from worker.leases import Leases
from worker.profiles import ModelProfile
from worker.provenance import provenance
from worker.runner import Ended, Runner
from worker.sweeper import Sweeper
from worker.tasks import register_deliver, register_score

log = logging.getLogger(__name__)

ENGINE_DIED = 70
"""Exit code of a worker whose engine died (EX_SOFTWARE of sysexits.h): start another."""

FAKE = "fake"
"""The name of the engine without a model."""

LINGER = 0.25
"""`engine.linger` where the engine computes on a CPU: record 0019."""

FETCH_WAITS = 0.1
"""Seconds."""

FAKE_ENGINE_DIES = signal.SIGRTMIN
"""Sent to a worker with the fake engine: the engine dies. Celery uses both SIGUSR1 and SIGUSR2."""


def score(settings: Settings) -> int:
    """Serves the model of `settings.model` until a signal or the engine's death. Returns the exit code."""
    profile = profiles.load(settings.model, settings.models_dir)
    name = _name("score")
    redis = connect(settings.redis_url)
    store, app = Store(redis), make_app(settings)
    with ExitStack() as closing:
        closing.callback(redis.close)
        started = time.monotonic()
        log.info("starting the engine %s for %s: this takes a while", settings.engine.kind, profile.name)
        thread = EngineThread()
        engine = thread.submit(start_engine, profile, settings).result()
        closing.callback(engine.close)
        if isinstance(engine, FakeEngine):
            signal.signal(FAKE_ENGINE_DIES, lambda *_: engine.die())
        log.info("the engine is ready after %.0f s", time.monotonic() - started)
        serves = thread.submit(_pass_the_gate, engine, profile, name).result()
        coalescer = make_coalescer(engine, thread, settings, _stop_celery)
        leases = Leases(store, settings.jobs.lease)
        reads = connect_cache(settings.redis_url)
        closing.callback(reads.close)
        cache = Cache(reads, profile, engine.info, settings.cache)
        left = Counts(ended.name.lower() for ended in Ended)
        about = _about(
            name,
            "score",
            settings,
            lambda: {
                "engine": {
                    **engine.statistics(),
                    **coalescer.statistics(),
                    "step_tokens": engine.info.step_tokens,
                },
                "cache": {**cache.statistics(), "shared": coalescer.shared},
                "serves": serves,
                "jobs": left.all(),
            },
        )
        for part in (coalescer, leases):
            part.start()
            closing.callback(part.close)
        doorbell = Doorbell(app, redis)
        runner = Runner(store, doorbell, engine, coalescer, cache, leases, profile, settings, name)
        register_score(app, runner.run, left)
        _drain_on_sigterm(settings.worker.drain.total_seconds(), coalescer.hand_back)
        queues = [queue_name(profile.name, lane) for lane in Lane]
        order = partial(InteractiveFirst, min(settings.worker.bulk_threads, settings.worker.threads - 1))
        # A fetch for interactive jobs alone ends soon, so that bulk ones find a place that was freed.
        app.conf.broker_transport_options |= {"queue_order_strategy": order, "polling_interval": FETCH_WAITS}
        return _serve(app, Heartbeat(store, name, about), queues, settings.worker.threads)


def callbacks(settings: Settings) -> int:
    """Delivers callbacks and sweeps, until a signal. Returns the exit code."""
    if settings.callback_secret is None:
        raise ConfigurationError(
            "callbacks need a secret to sign with: "
            "set PODIUM_CALLBACK_SECRET to whsec_ and 24 to 64 bytes in base64"
        )
    name = _name("callbacks")
    redis = connect(settings.redis_url)
    store, app = Store(redis), make_app(settings)
    with ExitStack() as closing:
        closing.callback(redis.close)
        egress = Egress(settings.allowed_networks, settings.callbacks.timeout)
        closing.callback(egress.close)
        secret = settings.callback_secret.get_secret_value()
        delivery = Delivery(store, egress, secret, settings.callbacks.hold)
        register_deliver(app, delivery.deliver)
        sweeper = Sweeper(store, Doorbell(app, redis), settings)
        counted = {"callbacks": delivery.attempts, "sweeper": sweeper.mended}
        about = _about(
            name, "callbacks", settings, lambda: {part: counts.all() for part, counts in counted.items()}
        )
        sweeper.start()
        closing.callback(sweeper.close)
        return _serve(app, Heartbeat(store, name, about), [CALLBACKS], settings.callbacks.threads)


def start_engine(profile: ModelProfile, settings: Settings) -> Engine:
    """The engine of `settings` with the model of `profile`. Raises `ConfigurationError`."""
    if settings.engine.kind == FAKE:
        return FakeEngine(
            step_tokens=settings.engine.step_tokens or STEP_TOKENS,
            step_seconds=settings.engine.fake_step,
            token_seconds=settings.engine.fake_token,
        )
    from worker.engines.vllm import VllmEngine  # imports torch: seconds, and a GPU's memory

    return VllmEngine(profile, settings.engine)


def make_coalescer(
    engine: Engine, thread: EngineThread, settings: Settings, on_death: Callable[[], None] = lambda: None
) -> Coalescer:
    return Coalescer(
        engine,
        thread,
        window_tokens=settings.engine.window_tokens,
        coalesce=settings.engine.coalesce,
        linger=linger(settings, engine.info),
        on_death=on_death,
    )


def linger(settings: Settings, about: EngineInfo) -> float:
    """The share of its time that a job which ended may wait for others: see `worker.plan.due`."""
    if settings.engine.linger is not None:
        return settings.engine.linger
    return LINGER if about.on_cpu else 0.0


def _pass_the_gate(engine: Engine, profile: ModelProfile, worker: str) -> dict[str, Any]:
    """Scores the golden pairs before any job. Returns what the worker says of the model that it serves.

    Raises `GoldenFailed`. The fake engine has no model: it has nothing to be right about.
    """
    about = provenance(profile, engine.info, profile.instruction, worker, 0).model_dump(exclude={"attempt"})
    about["max_tokens"] = engine.info.max_tokens
    if engine.info.name != FAKE:
        verdict = golden.check(engine, profile)
        log.info("%d golden pairs are right, within %s", verdict.pairs, verdict.largest_difference)
        about["golden"] = {"pairs": verdict.pairs, "largest_difference": verdict.largest_difference}
    return about


def _serve(app: Celery, heartbeat: Heartbeat, queues: list[str], threads: int) -> int:
    """Runs Celery's worker until it has drained. Its heart beats from its first look for messages on."""

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: Any) -> None:
        # Celery's own second Ctrl-C is a cold shutdown, which is broken with threads.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        heartbeat.start()
        log.info("%s takes jobs from %s", heartbeat.worker, ", ".join(queues))

    app.steps["consumer"].add(EventsTogether)
    # A task's end has its line; a second one, of its message's arrival, is a tenth of a worker's own cost.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    worker = app.Worker(
        hostname=heartbeat.worker,
        pool="threads",
        concurrency=threads,
        queues=queues,
        loglevel="INFO",
        redirect_stdouts=False,
        without_mingle=True,
        without_gossip=True,
    )
    try:
        worker.start()
    finally:
        heartbeat.close()
    return int(worker.exitcode or 0)


def _drain_on_sigterm(drain: float, hand_back: Callable[[], None]) -> None:
    """The first SIGTERM gives jobs `drain` seconds to end, a second one none; then they are handed back."""
    asked = threading.Event()

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def shutting_down(**_: Any) -> None:
        timer = threading.Timer(0 if asked.is_set() else drain, hand_back)
        asked.set()
        timer.daemon = True
        timer.start()


def _stop_celery() -> None:
    """A worker with a dead engine would drain the queue into failures: it ends, and is started anew."""
    celery.worker.state.should_stop = ENGINE_DIED


def _about(
    name: str, role: str, settings: Settings, more: Callable[[], dict[str, Any]]
) -> Callable[[], dict[str, Any]]:
    fixed = {"name": name, "role": role, "model": settings.model, "since": time.time()}
    return lambda: {**fixed, "at": time.time(), **more()}


def _name(role: str) -> str:
    return f"{role}-{os.getpid()}@{socket.gethostname()}"
