"""What the coalescer decides: which sequences enter the engine next, and when ended jobs are handed over.

Nothing here does I/O or waits.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from jobs.model import Lane
from worker.engines.base import Output, Prompt

CROWD = 8
"""Jobs of a lane in hand from which on one that ended may wait for others: fewer have little to share."""

LONGEST_LINGER = 0.5
"""Seconds that it waits at most."""


@dataclass(eq=False)
class Batch:
    """One job's sequences on their way through the engine.

    `sequences`: what the engine is asked for, each once if the job shares. `places[i]`: where in `outputs`
    the output of sequence i belongs. Times are `time.monotonic()`'s.
    """

    job_id: str
    lane: Lane
    sequences: Sequence[Prompt]
    places: Sequence[Sequence[int]]
    outputs: list[Output | None]
    shares: bool = True  # an equal sequence's output will do, whosever it is
    alone: bool = False  # it has the engine to itself, and shares with nobody
    lingers: bool = True  # when it has ended it may wait for others
    entering: Callable[[], None] | None = None  # called before the engine is given the first of it
    done: "Future[list[Output]]" = field(default_factory=Future)
    next: int = 0  # the first sequence that the engine was not asked for yet
    scored: int = 0  # outputs that are there
    shared: int = 0  # outputs that an equal sequence gave, of this job or of another
    came: float = field(default_factory=time.monotonic)
    ended: float = math.inf  # when the last output came

    @classmethod
    def of(
        cls,
        job_id: str,
        lane: Lane,
        sequences: Sequence[Prompt],
        *,
        shares: bool = True,
        alone: bool = False,
        lingers: bool = True,
        entering: Callable[[], None] | None = None,
    ) -> "Batch":
        shares = shares and not alone
        found: dict[bytes | int, list[int]] = {}
        for place, prompt in enumerate(sequences):
            found.setdefault(prompt.digest if shares else place, []).append(place)
        places = list(found.values())
        once = [sequences[first] for first, *_ in places]
        outputs: list[Output | None] = [None] * len(sequences)
        return cls(job_id, lane, once, places, outputs, shares, alone, lingers, entering,
                   shared=len(sequences) - len(once))  # fmt: skip

    def take(self, index: int, output: Output) -> bool:
        """Puts the output of a sequence wherever it belongs. Whether it was the last one."""
        for place in self.places[index]:
            self.outputs[place] = output
        self.scored += len(self.places[index])
        return self.scored == len(self.outputs)

    def hand_over(self) -> None:
        """All outputs are there: who waits for them goes on."""
        if not self.done.done():
            self.done.set_result([found for found in self.outputs if found is not None])


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


def due(ended: Iterable[Batch], in_hand: Iterable[Batch], asked_again: float, linger: float) -> bool:
    """Whether the jobs that have ended are handed over now, or wait for more to end. Record 0019.

    `asked_again`: when this will be asked next (`time.monotonic()`). By then none shall have waited longer
    than LONGEST_LINGER, nor than `linger` times what it took. None waits while its lane has no crowd
    `in_hand`, nor does a suspect. When one must go, all go.
    """
    crowds = Counter(batch.lane for batch in in_hand)
    return any(
        not batch.lingers
        or crowds[batch.lane] < CROWD
        or asked_again - batch.ended >= min(linger * (batch.ended - batch.came), LONGEST_LINGER)
        for batch in ended
    )
