"""Step 6: keeps the engine full with sequences from many jobs.

`plan` decides and does no I/O. One thread owns the engine and the list of waiting work: it hands the engine
a window of tokens, steps it, refills the window as sequences finish, and never waits for a batch to be full.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from jobs.errors import EngineDied
from jobs.model import Lane
from worker.engines.base import Engine, Output, Prompt
from worker.engines.thread import EngineThread

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds after which an idle engine is looked at: one that has died must take no job."""


class HandedBack(Exception):
    """The worker is draining: the job goes back to its queue, uncharged."""


class Dropped(Exception):
    """Nobody waits for the job any more: it was cancelled, has expired, or another worker has it."""


@dataclass(eq=False)
class Batch:
    """One job's sequences on their way through the engine."""

    job_id: str
    lane: Lane
    sequences: Sequence[Prompt]
    outputs: list[Output | None]
    alone: bool = False  # it shares the engine with nobody
    entering: Callable[[], None] | None = None  # called before the engine is given the first of it
    done: "Future[list[Output]]" = field(default_factory=Future)
    next: int = 0  # the first sequence that the engine was not given yet
    scored: int = 0


def candidates(waiting: Sequence[Batch], inside: Sequence[Batch]) -> Sequence[Batch]:
    """Those of `waiting` that may enter now, beside what is `inside`.

    A suspect runs alone, so that an engine that dies takes no innocent job along. It waits for its turn like
    any other; when that comes, nothing enters until the engine is empty.
    """
    lonely = [batch for batch in inside if batch.alone]
    if lonely:
        return [batch for batch in waiting if batch is lonely[0]]
    first = next((b for lane in (Lane.INTERACTIVE, Lane.BULK) for b in waiting if b.lane is lane), None)
    if first is not None and first.alone:
        return [] if inside else [first]
    return [batch for batch in waiting if not batch.alone]


def plan(waiting: Sequence[Batch], budget: int) -> list[tuple[Batch, int]]:
    """Which sequences go into the engine next: (job, how many of it), for at most `budget` tokens.

    Interactive before bulk, older before newer. Each job of a lane first gets an equal share of the budget,
    so that none fills the window while others wait; what is left goes to the oldest. Sequences of one job
    stay adjacent, so that their shared beginning is found in the prefix cache. If the budget is whole and
    the first sequence is larger, it goes alone: nothing starves.
    """
    chosen: dict[int, int] = {}
    left = budget
    for lane in (Lane.INTERACTIVE, Lane.BULK):
        batches = [batch for batch in waiting if batch.lane is lane and batch.next < len(batch.sequences)]
        share = left // len(batches) if batches else 0
        for allowance in (share, budget):
            for batch in batches:
                taken = chosen.get(id(batch), 0)
                spent = 0
                for sequence in batch.sequences[batch.next + taken :]:
                    cost = len(sequence)
                    if cost > left or (spent + cost > allowance and spent > 0):
                        break
                    taken, spent, left = taken + 1, spent + cost, left - cost
                chosen[id(batch)] = taken
    return [(batch, chosen[id(batch)]) for lane in (Lane.INTERACTIVE, Lane.BULK)
            for batch in waiting if batch.lane is lane and chosen.get(id(batch))]  # fmt: skip


class Coalescer:
    """Give it a job's sequences; get a future of their outputs.

    `leaving` is set when all is handed back. When the engine dies, `dead` is set before any future fails, so
    that nobody claims another job; then `on_death` is called.
    """

    def __init__(
        self,
        engine: Engine,
        thread: EngineThread,
        *,
        window_tokens: int,
        coalesce: bool = True,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._coalesce = coalesce
        self._on_death = on_death
        self._window = max(window_tokens, engine.info.max_tokens)
        self._lock = threading.Condition()
        self._waiting: list[Batch] = []
        self._inside: dict[str, tuple[Batch, int]] = {}
        self._tokens_inside = 0
        self._numbers = 0
        self._closing = False
        self.dead = threading.Event()
        self.leaving = threading.Event()
        self._thread = thread
        self._running: Future[None] | None = None

    def start(self) -> None:
        """From now on the engine's thread is taken."""
        self._running = self._thread.submit(self._run)

    def submit(
        self,
        job_id: str,
        lane: Lane,
        sequences: Sequence[Prompt],
        *,
        suspect: bool = False,
        entering: Callable[[], None] | None = None,
    ) -> Batch:
        """Queues a job's sequences. `batch.done` gives the outputs.

        `suspect`: an engine or a worker ended with it before, so it shares the engine with nobody.
        `entering` is called by the engine's thread before the engine is given any of them.

        Or it raises `HandedBack`, `Dropped` or `EngineDied`.
        """
        alone = suspect or not self._coalesce
        batch = Batch(job_id, lane, sequences, [None] * len(sequences), alone, entering)
        with self._lock:
            if self.dead.is_set():
                batch.done.set_exception(EngineDied("the engine has ended"))
            elif self.leaving.is_set():
                batch.done.set_exception(HandedBack(job_id))
            elif not sequences:
                batch.done.set_result([])
            else:
                self._waiting.append(batch)
                self._lock.notify()
        return batch

    def drop(self, batch: Batch) -> None:
        """Forgets what the engine was not given yet, and aborts the rest: its future raises `Dropped`."""
        with self._lock:
            self._waiting = [waiting for waiting in self._waiting if waiting is not batch]
            if not batch.done.done():
                batch.done.set_exception(Dropped(batch.job_id))
            self._lock.notify()

    def hand_back(self) -> None:
        """Gives back every job that is not done: each future raises `HandedBack`. Takes no more."""
        with self._lock:
            self.leaving.set()
            leaving = HandedBack("the worker is draining")
            self._end_all(leaving, leaving)
            self._lock.notify()

    def close(self) -> None:
        """Stops the thread after its present step. The engine is the caller's to close."""
        self.hand_back()
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._running is not None:
            self._running.result()

    def _run(self) -> None:
        try:
            while self._admit():
                if self._inside:
                    self._collect(self._engine.step())
        except Exception as error:  # whatever it is, the engine can't be trusted any more
            log.exception("the engine died: %s", error)
            with self._lock:
                self.dead.set()
                innocent = HandedBack("the engine died before it was given this job")
                self._end_all(EngineDied(f"the engine died: {error}"), innocent)
            self._on_death()

    def _admit(self) -> bool:
        """Waits for work and hands the engine what `plan` chose. False when it is time to end."""
        with self._lock:
            while not self._closing and not self._waiting and not self._inside and self._engine.alive:
                self._lock.wait(LOOK)
            if self._closing:
                return False
            if not self._engine.alive:
                raise EngineDied("it ended by itself")
            gone = [key for key, (batch, _) in self._inside.items() if batch.done.done()]
            for key in gone:
                self._leave(key)
            inside = list({id(batch): batch for batch, _ in self._inside.values()}.values())
            chosen = plan(candidates(self._waiting, inside), self._window - self._tokens_inside)
            entering = []
            first = [batch.entering for batch, _ in chosen if batch.next == 0 and batch.entering]
            for batch, count in chosen:
                for index in range(batch.next, batch.next + count):
                    self._numbers += 1
                    key = str(self._numbers)
                    self._inside[key] = (batch, index)
                    self._tokens_inside += len(batch.sequences[index])
                    entering.append((key, batch.sequences[index], batch.lane is Lane.INTERACTIVE))
                batch.next += count
            self._waiting = [batch for batch in self._waiting if batch.next < len(batch.sequences)]
        if gone:
            self._engine.abort(gone)
        for enter in first:
            enter()
        for key, prompt, urgent in entering:
            self._engine.add(key, prompt, urgent=urgent)
        return True

    def _collect(self, finished: Sequence[tuple[str, Output]]) -> None:
        with self._lock:
            for key, output in finished:
                if key not in self._inside:
                    continue
                batch, index = self._leave(key)
                batch.outputs[index] = output
                batch.scored += 1
                if batch.scored == len(batch.sequences) and not batch.done.done():
                    batch.done.set_result([found for found in batch.outputs if found is not None])

    def _leave(self, key: str) -> tuple[Batch, int]:
        batch, index = self._inside.pop(key)
        self._tokens_inside -= len(batch.sequences[index])
        return batch, index

    def _end_all(self, inside: Exception, waiting: Exception) -> None:
        """Ends every job: `inside` for those of which the engine has something, `waiting` for the rest."""
        for batches, error in (([b for b, _ in self._inside.values()], inside), (self._waiting, waiting)):
            for batch in batches:
                if not batch.done.done():
                    batch.done.set_exception(error)
        self._waiting.clear()
