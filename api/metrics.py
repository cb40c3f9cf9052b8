"""`GET /metrics`, for Prometheus: what waits, and what live workers say of themselves.

Read at each scrape; nothing is kept here. A worker's counters are those of its last heartbeat, some 2 s old.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from api import problems
from api.auth import keyed
from jobs.store import Store

router = keyed(tags=["metrics"], responses=problems.RESPONSES)

OF_LANES = {
    "waiting_jobs": ("podium_queue_jobs", "Jobs that wait for a worker."),
    "waiting_tokens": ("podium_queue_tokens", "Tokens of the jobs that wait, estimated."),
    "running": ("podium_running_jobs", "Jobs that a worker has in hand."),
}

OF_WORKERS = {
    ("engine", "steps"): ("podium_engine_steps", "Steps of the engine."),
    ("engine", "tokens"): ("podium_engine_tokens", "Tokens that the engine has computed."),
    ("engine", "busy"): ("podium_engine_busy_seconds", "Seconds that the engine has stepped."),
    ("engine", "jobs"): ("podium_engine_step_jobs", "Jobs inside the engine, summed over its steps."),
    ("cache", "hits"): ("podium_cache_hits", "Pairs whose score was known."),
    ("cache", "misses"): ("podium_cache_misses", "Pairs that were looked up in vain."),
    ("cache", "stored"): ("podium_cache_stored", "Scores that were kept."),
    ("cache", "shared"): ("podium_shared_pairs", "Pairs that had an equal one's output."),
}
"""Counters: where each is in a heartbeat, its name without Prometheus' `_total`, what it counts."""

BY_KIND = {
    "jobs": ("podium_jobs", "Jobs that a worker was told of, by how it left them.", "outcome"),
    "callbacks": ("podium_callback_attempts", "By the state that each left its callback in.", "state"),
    "sweeper": ("podium_mended", "What was lost or late, and mended by the sweeper.", "what"),
}
"""Counters of several kinds: part of a heartbeat, its name, what it counts, the kind's label."""


@dataclass(frozen=True)
class Figures(Collector):
    """Of one scrape. Raises `StoreUnavailable`."""

    store: Store
    requests: int

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "podium_waiting_requests", "Requests that wait for a job, in this API process.", self.requests
        )
        lanes = self.store.depths()
        for field, (name, about) in OF_LANES.items():
            gauge = GaugeMetricFamily(name, about, labels=("model", "lane"))
            for depth in lanes:
                gauge.add_metric((depth.model, depth.lane.value), getattr(depth, field))
            yield gauge
        workers = self.store.workers()
        live = GaugeMetricFamily(
            "podium_worker_up",
            "1 for each live worker; none for one that is gone.",
            labels=("worker", "role", "model"),
        )
        for worker in workers:
            live.add_metric((worker["name"], worker["role"], worker["model"]), 1)
        yield live
        limit = GaugeMetricFamily(
            "podium_engine_step_tokens_max",
            "Tokens that a step carries at most.",
            labels=("worker", "model"),
        )
        yield _of_each(workers, limit, "engine", "step_tokens")
        for (part, field), (name, about) in OF_WORKERS.items():
            yield _of_each(workers, CounterMetricFamily(name, about, labels=("worker", "model")), part, field)
        for part, (name, about, label) in BY_KIND.items():
            counter = CounterMetricFamily(name, about, labels=("worker", "model", label))
            for worker in workers:
                for kind, value in worker.get(part, {}).items():
                    counter.add_metric((worker["name"], worker["model"], kind), value)
            yield counter


def _of_each(
    workers: list[dict[str, Any]], family: CounterMetricFamily | GaugeMetricFamily, part: str, field: str
) -> Metric:
    """With the value of each worker that has one: another version may have no such."""
    for worker in workers:
        if (value := worker.get(part, {}).get(field)) is not None:
            family.add_metric((worker["name"], worker["model"]), value)
    return family


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Queues, workers, engines, caches, callbacks and recoveries, in Prometheus' text format."""
    state = request.app.state
    registry = CollectorRegistry()
    registry.register(Figures(state.store, state.waiting.count))
    text = await asyncio.to_thread(generate_latest, registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
