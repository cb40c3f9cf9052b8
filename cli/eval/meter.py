"""How far an evaluation is: a bar on a terminal, else a line now and then."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SAY_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""

TELL_EVERY = 10.0
"""Seconds between two lines of what holds it up."""


@dataclass
class Meter:
    """Counts documents. `done`: those that were scored before."""

    console: Console
    total: int
    done: int
    clock: Callable[[], float] = time.monotonic
    _bar: Progress = field(init=False)

    def __post_init__(self) -> None:
        self._bar = Progress(
            TextColumn("documents"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=120,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self.total, completed=self.done, rate="")

    def __enter__(self) -> Self:
        self._began = self._said = self.clock()
        self._told = -math.inf
        self._before = self.done
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, documents: int) -> None:
        now = self.clock()
        self.done += documents
        rate = (self.done - self._before) / max(now - self._began, 1e-9)
        self._bar.update(self._task, completed=self.done, rate=f"{rate:,.1f}/s")
        if not self.console.is_terminal and now - self._said >= SAY_EVERY:
            self._said = now
            left = (self.total - self.done) / rate
            self.console.print(
                f"{self.done:,} of {self.total:,} documents, {rate:,.1f}/s, about {left:,.0f} s left"
            )

    def tell(self, text: str) -> None:
        """A line above the bar; not one for each of many requests that are pushed back together."""
        if self.clock() - self._told >= TELL_EVERY:
            self._told = self.clock()
            self._bar.console.print(text)
