"""Processes that live and die together: started with a log each, watched, stopped in order.

Not a process-manager library: docs/decisions/0002.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from jobs.errors import PodiumError
from worker.engines.pdeathsig import die_with_parent

TAIL = 15
"""Lines of its log that are shown of a part that died."""

PAUSES = (0, 1, 2, 4, 8, 15, 30)
"""Seconds before the first, second, … restart of a part; the last one for all that follow."""


class PartDied(PodiumError):
    """A part ended by itself; the message has the end of its log."""

    code = "part_died"


@dataclass
class Part:
    """One process. `grace`: seconds between SIGTERM and SIGKILL."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    grace: float
    process: "subprocess.Popen[bytes]"
    deaths: list[float] = field(default_factory=list)
    due: float | None = None  # when it is to be started again

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill_what_it_left(self) -> None:
        """Ends processes of a part that has ended: an engine's that was only about to tie its life to it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # each part leads a group of its own

    def obituary(self) -> str:
        """How it ended, and the end of its log."""
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        tail = "".join(f"\n    {line}" for line in lines)
        return f"{self.name} {how}. The end of {self.log}:{tail}"


class Stack:
    """Parts in the order of their start; they are stopped in the reverse order."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.parts: list[Part] = []

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], *, grace: float = 5.0) -> Part:
        log = self._logs / f"{name}.log"
        part = Part(name, argv, env, log, grace, _spawn(argv, env, log))
        self.parts.append(part)
        return part

    def start_podium(self, name: str, *command: str, env: Mapping[str, str], grace: float = 5.0) -> Part:
        """Starts a part that is a command of `podium`."""
        return self.start(name, [sys.executable, "-m", "cli", *command], env, grace=grace)

    def check(self) -> None:
        """Raises `PartDied` for the first part that has ended."""
        for part in self.parts:
            if not part.alive:
                raise PartDied(part.obituary())

    def revive(self, at_most: int, within: float) -> list[str]:
        """Starts again what has ended, each time after a longer pause, and says what ended.

        Raises `PartDied` when one died more than `at_most` times `within` seconds.
        """
        told = []
        now = time.monotonic()
        for part in self.parts:
            if part.alive:
                continue
            if part.due is None:
                part.kill_what_it_left()
                part.deaths = [*(death for death in part.deaths if now - death < within), now]
                if len(part.deaths) > at_most:
                    raise PartDied(f"{part.obituary()}\n{part.name} died {len(part.deaths)} times: giving up")
                pause = PAUSES[min(len(part.deaths), len(PAUSES)) - 1]
                part.due = now + pause
                told.append(f"{part.obituary()}\n  It is started again{f' in {pause} s' if pause else ''}.")
            if now >= part.due:
                part.process, part.due = _spawn(part.argv, part.env, part.log), None
        return told

    def stop(self, *, hurry: "Hurry | None" = None) -> list[str]:
        """Ends every part, the last first. Returns the names of those that had to be killed."""
        killed = []
        for part in reversed(self.parts):
            if part.alive:
                part.process.terminate()
            deadline, hurried = time.monotonic() + part.grace, 1
            while part.alive and time.monotonic() < deadline:
                if hurry is not None and hurry.signals > hurried:
                    part.process.terminate()  # a second SIGTERM: a worker hands back at once
                    hurried = hurry.signals
                time.sleep(0.05)
            if part.alive:
                killed.append(part.name)
                part.process.kill()
            part.process.wait()
            part.kill_what_it_left()
        return killed


class Hurry:
    """Counts the SIGINT, SIGTERM and SIGHUP that this process is sent: one ends the stack, more hurry it."""

    def __init__(self) -> None:
        self.signals = 0

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._count)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _count(self, *_: object) -> None:
        self.signals += 1


def _spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as out:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the stack alone, which then stops its parts in order
            preexec_fn=partial(die_with_parent, signal.SIGTERM) if os.name == "posix" else None,
        )
