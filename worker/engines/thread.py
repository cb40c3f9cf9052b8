"""The one thread that makes an engine and calls it.

OpenMP keeps a team of threads for each thread that computes. With two teams there are more threads than
cores, and GNU's OpenMP then sends waiting ones to sleep in each of a step's many short loops: an engine that
was made in one thread and stepped in another lost a quarter of its speed on a CPU (docs/decisions/0011).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class EngineThread:
    """Runs calls one after another. A daemon: an engine that hangs does not keep its process alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """The call's result, or what it raised."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call(*args, **kwargs))
            except BaseException as error:  # whoever waits for it is told, whatever it is
                done.set_exception(error)

        self._calls.put(run)
        return done

    def _run(self) -> None:
        while True:
            self._calls.get()()
