"""Step 6: keeps the engine full with sequences from many jobs.

`worker/plan.py` decides. One thread owns the engine and the list of waiting work: it hands the engine
a window of tokens, steps it, refills the window as sequences finish, and never waits for a batch to be full.
Jobs that end while many are in hand are handed over together.

A sequence that equals one which the engine has at this moment is not given to it again: it waits for the same
output. An interactive one does not wait for what is in there with a bulk one's priority: it takes its place.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from jobs.errors import EngineDied
from jobs.model import Lane
from worker.engines.base import Engine, Output, Prompt
from worker.engines.thread import EngineThread
from worker.plan import Batch, candidates, due, plan

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds after which an idle engine is looked at: one that has died must take no job."""


class HandedBack(Exception):
    """The worker is draining: the job goes back to its queue, uncharged."""


class Dropped(Exception):
    """Nobody waits for the job any more: it was cancelled, has expired, or another worker has it."""


@dataclass(eq=False)
class Inside:
    """A sequence that the engine has, and who waits for its output: (batch, which of its sequences)."""

    prompt: Prompt
    urgent: bool
    waiters: list[tuple[Batch, int]]


class Coalescer:
    """Give it a job's sequences; get a future of their outputs.

    `linger`: see `due`. 0 hands over each job as soon as it ends.
    `leaving` is set when all is handed back. When the engine dies, `dead` is set before any future fails, so
    that nobody claims another job; then `on_death` is called. `shared` counts the outputs that did not have
    to be computed, since an equal sequence's was.
    """

    def __init__(
        self,
        engine: Engine,
        thread: EngineThread,
        *,
        window_tokens: int,
        coalesce: bool = True,
        linger: float = 0.0,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._coalesce = coalesce
        self._linger = linger
        self._on_death = on_death
        self._window = max(window_tokens, engine.info.max_tokens)
        self._lock = threading.Condition()
        self._waiting: list[Batch] = []
        self._inside: dict[str, Inside] = {}
        self._equal: dict[bytes, str] = {}  # where in `_inside` a sequence is that may be shared
        self._tokens_inside = 0
        self._ended: list[Batch] = []  # and not handed over yet
        self._step_took = 0.0  # the last one, in seconds
        self._numbers = 0
        self._dropped = False  # some of what is inside may be wanted by nobody
        self.shared = 0
        self._busy = 0.0
        self._jobs = 0
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
        shares: bool = True,
        suspect: bool = False,
        entering: Callable[[], None] | None = None,
    ) -> Batch:
        """Queues a job's sequences. `batch.done` gives the outputs; of no sequences it does so at once.

        `shares`: the output of an equal sequence will do, of this job or another.
        `suspect`: an engine or a worker ended with it before, so it shares the engine with nobody.
        `entering` is called by the engine's thread before the engine is given any of them.

        Or it raises `HandedBack`, `Dropped` or `EngineDied`.
        """
        alone = suspect or not self._coalesce
        # A suspect that has ended must be out before the next one enters: it would be charged with it.
        batch = Batch.of(
            job_id, lane, sequences, shares=shares, alone=alone, lingers=not suspect, entering=entering
        )
        if not sequences:
            batch.done.set_result([])
            return batch
        with self._lock:
            if self.dead.is_set():
                batch.done.set_exception(EngineDied("the engine has ended"))
            elif self.leaving.is_set():
                batch.done.set_exception(HandedBack(job_id))
            else:
                self._waiting.append(batch)
                self.shared += batch.shared
                self._lock.notify()
        return batch

    def drop(self, batch: Batch) -> None:
        """Forgets what the engine was not given yet, and aborts the rest, but for sequences that another job
        waits for too. Its future raises `Dropped`.
        """
        with self._lock:
            self._dropped = True
            self._waiting = [waiting for waiting in self._waiting if waiting is not batch]
            if not batch.done.done():
                batch.done.set_exception(Dropped(batch.job_id))
            self._lock.notify()

    def hand_back(self) -> None:
        """Gives back every job that has not ended: each future raises `HandedBack`. Takes no more."""
        with self._lock:
            self.leaving.set()
            leaving = HandedBack("the worker is draining")
            self._end_all(leaving, leaving)
            self._dropped = True
            self._lock.notify()

    def close(self) -> None:
        """Stops the thread after its present step. The engine is the caller's to close."""
        self.hand_back()
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._running is not None:
            self._running.result()

    def statistics(self) -> dict[str, float]:
        """Since its start: `busy`, seconds that the engine has stepped; `jobs`, those of which the engine had
        something inside, summed over its steps.
        """
        return {"busy": self._busy, "jobs": self._jobs}

    def _run(self) -> None:
        try:
            while self._admit():
                if self._inside:
                    began = time.monotonic()
                    finished = self._engine.step()
                    self._step_took = time.monotonic() - began
                    self._busy += self._step_took
                    self._collect(finished)
        except Exception as error:  # whatever it is, the engine can't be trusted any more
            log.exception("the engine died: %s", error)
            with self._lock:
                self.dead.set()
                innocent = HandedBack("the engine died before it was given this job")
                self._end_all(EngineDied(f"the engine died: {error}"), innocent)
            self._on_death()

    def _admit(self) -> bool:
        """Hands over what has ended, if it is `due`; waits for work and hands the engine what `plan` chose.
        False when it is time to end.
        """
        with self._lock:
            if self._ended and self._is_due():
                self._hand_over()
            while not self._closing and not self._waiting and not self._inside and self._engine.alive:
                self._lock.wait(LOOK)
            if self._closing:
                return False
            if not self._engine.alive:
                raise EngineDied("it ended by itself")
            gone = self._unwanted() if self._dropped else []
            inside = self._batches_inside()
            budget = self._window - self._tokens_inside
            chosen = plan(candidates(self._waiting, inside), budget, self._equal)
            first = [batch.entering for batch, _ in chosen if batch.next == 0 and batch.entering]
            entering: list[str] = []
            for batch, count in chosen:
                for index in range(batch.next, batch.next + count):
                    self._enter(batch, index, entering, gone)
                batch.next += count
            self._jobs += len({*inside, *(batch for batch, _ in chosen)})
            self._waiting = [batch for batch in self._waiting if batch.next < len(batch.sequences)]
            given = [(key, self._inside[key].prompt, self._inside[key].urgent) for key in entering]
        if gone:
            self._engine.abort(gone)
        for enter in first:
            enter()
        for key, prompt, urgent in given:
            self._engine.add(key, prompt, urgent=urgent)
        return True

    def _unwanted(self) -> list[str]:
        """Takes out what nobody waits for any more."""
        self._dropped = False
        gone = [key for key, entry in self._inside.items() if all(b.done.done() for b, _ in entry.waiters)]
        for key in gone:
            self._leave(key)
        return gone

    def _enter(self, batch: Batch, index: int, entering: list[str], gone: list[str]) -> None:
        """Makes one sequence wait for an output: its own, or that of an equal one which the engine has."""
        prompt, urgent = batch.sequences[index], batch.lane is Lane.INTERACTIVE
        found = self._equal.get(prompt.digest) if batch.shares else None
        waiters = [(batch, index)]
        if found is not None:
            entry = self._inside[found]
            waits = batch if entry.urgent or not urgent else entry.waiters[0][0]
            waits.shared += 1
            self.shared += 1
            if waits is batch:
                entry.waiters.append((batch, index))
                return
            waiters += self._leave(found).waiters
            gone.append(found)
        self._numbers += 1
        key = str(self._numbers)
        self._inside[key] = Inside(prompt, urgent, waiters)
        self._tokens_inside += len(prompt)
        if batch.shares:
            self._equal[prompt.digest] = key
        entering.append(key)

    def _collect(self, finished: Sequence[tuple[str, Output]]) -> None:
        with self._lock:
            now = time.monotonic()
            for key, output in finished:
                if key in self._inside:
                    for batch, index in self._leave(key).waiters:
                        if batch.take(index, output):
                            batch.ended = now
                            self._ended.append(batch)

    def _is_due(self) -> bool:
        """Whether what has ended is handed over now. If not, that is asked again after the next step."""
        if not self._linger:
            return True
        in_hand = {*self._waiting, *self._batches_inside()}
        return due(self._ended, in_hand, time.monotonic() + self._step_took, self._linger)

    def _hand_over(self) -> None:
        for batch in self._ended:
            batch.hand_over()
        self._ended.clear()

    def _batches_inside(self) -> list[Batch]:
        """Those of which the engine has something."""
        return list({id(b): b for entry in self._inside.values() for b, _ in entry.waiters}.values())

    def _leave(self, key: str) -> Inside:
        entry = self._inside.pop(key)
        self._tokens_inside -= len(entry.prompt)
        if self._equal.get(entry.prompt.digest) == key:
            del self._equal[entry.prompt.digest]
        return entry

    def _end_all(self, inside: Exception, waiting: Exception) -> None:
        """Hands over the jobs that have ended. Those of which the engine has something end with `inside`, the
        rest with `waiting`.
        """
        self._hand_over()
        for batches, error in ((self._batches_inside(), inside), (self._waiting, waiting)):
            for batch in batches:
                if not batch.done.done():
                    batch.done.set_exception(error)
        self._waiting.clear()
