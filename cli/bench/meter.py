"""How far a bench is: a bar on a terminal, else a line for each step."""

import time
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


@dataclass
class Steps:
    """Counts the steps of a bench. `now` says what runs; `done` that it has ended."""

    console: Console
    total: int
    _bar: Progress = field(init=False)

    def __post_init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=300,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self.total)
        self._began = time.monotonic()
        self._said = -LINE_EVERY

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def now(self, what: str) -> None:
        self._bar.update(self._task, description=what)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._said >= LINE_EVERY:
            self._said = now
            done = int(self._bar.tasks[0].completed)
            self.console.print(f"[{now - self._began:.0f} s] {done} of {self.total} steps; now: {what}")

    def done(self, steps: int = 1) -> None:
        self._bar.advance(self._task, steps)
