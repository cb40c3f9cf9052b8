"""Step 6: keeps the engine full with sequences from many jobs.

`plan` decides and does no I/O. One thread owns the engine and the list of waiting work: it hands the engine
a window of tokens, steps it, refills the window as sequences finish, and never waits for a batch to be full.

A sequence that equals one which the engine has at this moment is not given to it again: it waits for the same
output. An interactive one does not wait for what is in there with a bulk one's priority: it takes its place.
"""

import logging
import math
import threading
from collections.abc import Callable, Container, Sequence
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
    """One job's sequences on their way through the engine.

    `sequences`: what the engine is asked for, each once if the job shares. `places[i]`: where in `outputs`
    the output of sequence i belongs.
    """

    job_id: str
    lane: Lane
    sequences: Sequence[Prompt]
    places: Sequence[Sequence[int]]
    outputs: list[Output | None]
    shares: bool = True  # an equal sequence's output will do, whosever it is
    alone: bool = False  # it has the engine to itself, and shares with nobody
    entering: Callable[[], None] | None = None  # called before the engine is given the first of it
    done: "Future[list[Output]]" = field(default_factory=Future)
    next: int = 0  # the first sequence that the engine was not asked for yet
    scored: int = 0  # outputs that are there
    shared: int = 0  # outputs that an equal sequence gave, of this job or of another

    @classmethod
    def of(
        cls,
        job_id: str,
        lane: Lane,
        sequences: Sequence[Prompt],
        *,
        shares: bool = True,
        alone: bool = False,
        entering: Callable[[], None] | None = None,
    ) -> "Batch":
        shares = shares and not alone
        found: dict[bytes | int, list[int]] = {}
        for place, prompt in enumerate(sequences):
            found.setdefault(prompt.digest if shares else place, []).append(place)
        places = list(found.values())
        once = [sequences[first] for first, *_ in places]
        outputs: list[Output | None] = [None] * len(sequences)
        return cls(job_id, lane, once, places, outputs, shares, alone, entering,
                   shared=len(sequences) - len(once))  # fmt: skip

    def take(self, index: int, output: Output) -> None:
        """Puts the output of a sequence wherever it belongs. With the last one the batch is done."""
        for place in self.places[index]:
            self.outputs[place] = output
        self.scored += len(self.places[index])
        if self.scored == len(self.outputs) and not self.done.done():
            self.done.set_result([found for found in self.outputs if found is not None])


@dataclass(eq=False)
class Inside:
    """A sequence that the engine has, and who waits for its output: (batch, which of its sequences)."""

    prompt: Prompt
    urgent: bool
    waiters: list[tuple[Batch, int]]


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


def plan(
    waiting: Sequence[Batch], budget: int, inside: Container[bytes] = frozenset()
) -> list[tuple[Batch, int]]:
    """Which sequences go next: (job, how many of it), for at most `budget` tokens.

    Interactive before bulk, older before newer. Each job of a lane first gets an equal share of the budget,
    so that none fills the window while others wait; what is left goes to the oldest. Sequences of one job
    stay adjacent, so that their shared beginning is found in the prefix cache. One that does not fit waits
    for room, which nobody behind it takes: nothing starves. One that equals a sequence which is `inside`
    (digests) or chosen already costs nothing.
    """
    chosen: dict[int, int] = {}
    equal: set[bytes] = set()
    left = budget
    for lane in (Lane.INTERACTIVE, Lane.BULK):
        batches = [batch for batch in waiting if batch.lane is lane and batch.next < len(batch.sequences)]
        share = left // len(batches) if batches else 0
        for allowance in (share, math.inf):
            for batch in batches:
                first = batch.next + chosen.get(id(batch), 0)
                taken = spent = 0
                for index in range(first, len(batch.sequences)):
                    prompt = batch.sequences[index]
                    free = batch.shares and (prompt.digest in inside or prompt.digest in equal)
                    cost = 0 if free else len(prompt)
                    if spent + cost > allowance and spent > 0:
                        break
                    if cost > left:
                        left = 0
                        break
                    taken, spent, left = taken + 1, spent + cost, left - cost
                    if batch.shares:
                        equal.add(prompt.digest)
                chosen[id(batch)] = chosen.get(id(batch), 0) + taken
    return [(batch, chosen[id(batch)]) for lane in (Lane.INTERACTIVE, Lane.BULK)
            for batch in waiting if batch.lane is lane and chosen.get(id(batch))]  # fmt: skip


class Coalescer:
    """Give it a job's sequences; get a future of their outputs.

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
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._coalesce = coalesce
        self._on_death = on_death
        self._window = max(window_tokens, engine.info.max_tokens)
        self._lock = threading.Condition()
        self._waiting: list[Batch] = []
        self._inside: dict[str, Inside] = {}
        self._equal: dict[bytes, str] = {}  # where in `_inside` a sequence is that may be shared
        self._tokens_inside = 0
        self._numbers = 0
        self._dropped = False  # some of what is inside may be wanted by nobody
        self.shared = 0
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
        batch = Batch.of(job_id, lane, sequences, shares=shares, alone=alone, entering=entering)
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
        """Gives back every job that is not done: each future raises `HandedBack`. Takes no more."""
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
            gone = self._unwanted() if self._dropped else []
            inside = list({id(b): b for entry in self._inside.values() for b, _ in entry.waiters}.values())
            budget = self._window - self._tokens_inside
            chosen = plan(candidates(self._waiting, inside), budget, self._equal)
            first = [batch.entering for batch, _ in chosen if batch.next == 0 and batch.entering]
            entering: list[str] = []
            for batch, count in chosen:
                for index in range(batch.next, batch.next + count):
                    self._enter(batch, index, entering, gone)
                batch.next += count
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
            for key, output in finished:
                if key in self._inside:
                    for batch, index in self._leave(key).waiters:
                        batch.take(index, output)

    def _leave(self, key: str) -> Inside:
        entry = self._inside.pop(key)
        self._tokens_inside -= len(entry.prompt)
        if self._equal.get(entry.prompt.digest) == key:
            del self._equal[entry.prompt.digest]
        return entry

    def _end_all(self, inside: Exception, waiting: Exception) -> None:
        """Ends every job: `inside` for those of which the engine has something, `waiting` for the rest."""
        have = [batch for entry in self._inside.values() for batch, _ in entry.waiters]
        for batches, error in ((have, inside), (self._waiting, waiting)):
            for batch in batches:
                if not batch.done.done():
                    batch.done.set_exception(error)
        self._waiting.clear()
