"""The API in a thread of the test, on a real socket: for what a test client in memory can't show."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from tests.support.ports import free_port
from tests.support.waiting import until


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """The port on which `app` listens while the block runs."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until("the API listens", lambda: server.started, 10)
        yield port
    finally:
        server.should_exit = True
        thread.join()
