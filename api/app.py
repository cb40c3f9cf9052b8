"""The API process: its parts are put together here."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from api import health, metrics, openapi, problems
from api.body import BodyLimit
from api.looking import Looks
from api.routes import callbacks, events, jobs, models, rerank, score
from api.waiting import Waiting
from jobs.async_store import AsyncStore
from jobs.connection import connect
from jobs.ending import Ending
from jobs.queue import Doorbell, make_app
from jobs.settings import Settings
from jobs.store import Store

THREADS = 4
"""For what is rare, or large. More of them wait for their turn at Python, not for Redis."""


def create_app(settings: Settings, *, page: bool = True) -> FastAPI:
    """The API, with the page at /ui if it is wanted and Gradio is installed."""
    redis = connect(settings.redis_url)
    store = Store(redis)
    celery = make_app(settings)
    doorbell = Doorbell(celery, redis)
    async_store = AsyncStore(store, settings.redis_url)
    looks = Looks(async_store, settings)
    waiting = Waiting(settings.redis_url, looks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "store"))
        try:
            async with waiting.listening():
                yield
        finally:
            await async_store.close()
            celery.close()
            redis.close()

    app = FastAPI(
        title="Podium",
        version=version("podium"),
        summary="Asynchronous reranking: send a query and documents, fetch them ranked.",
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.store = store
    app.state.jobs = async_store
    app.state.looks = looks
    app.state.waiting = waiting
    app.state.doorbell = doorbell
    app.state.ending = Ending(store, doorbell, settings)
    problems.install(app)
    app.include_router(jobs.router)
    app.include_router(events.router)
    app.include_router(callbacks.router)
    app.include_router(rerank.router)
    app.include_router(score.router)
    app.include_router(models.router)
    app.include_router(models.info)
    app.include_router(health.router)
    app.include_router(metrics.router)
    openapi.install(app, settings, problems.Problem)
    app.add_middleware(BodyLimit, limit=settings.limits.body_bytes)
    if page:
        from api.page import mount  # Gradio takes seconds to import

        mount(app, settings)

        @app.get("/", include_in_schema=False)
        async def to_the_page() -> RedirectResponse:
            return RedirectResponse("/ui")

    return app
