"""THE MAIN FLOW: one job from its claim to its end. Read this first.

claim → prompts → known scores → the rest coalesced through the engine → ranked → stored. Whatever goes wrong
on the way is one of three ends: the job fails (its own fault), goes back uncharged (the worker is leaving),
or goes back charged (the engine died with it inside).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from redis.backoff import ExponentialWithJitterBackoff

from jobs.ending import Ending
from jobs.errors import EngineDied, PodiumError, Poisoned, StoreUnavailable
from jobs.model import Claim, Failure, Result, Timings, Usage
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import JobState, Outcome
from jobs.store import Store
from worker import prompts
from worker.cache import Cache, nothing_known
from worker.coalescer import Coalescer, Dropped, HandedBack
from worker.engines.base import Engine, Prompt
from worker.leases import Leases, Progress
from worker.plan import Batch
from worker.profiles import ModelProfile
from worker.provenance import provenance
from worker.ranking import rank, scores_of

log = logging.getLogger(__name__)

PAUSES = ExponentialWithJitterBackoff(base=0.1, cap=2)
"""Seconds between two tries to store what a job has come to."""


class Ended(StrEnum):
    """What became of one doorbell."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HANDED_BACK = "handed back"  # waits in its queue again
    NOT_OURS = "not ours"  # somebody else has it, or it has ended already


@dataclass(frozen=True)
class Runner:
    """All that a job meets on its way, passed in."""

    store: Store
    doorbell: Doorbell
    engine: Engine
    coalescer: Coalescer
    cache: Cache
    leases: Leases
    profile: ModelProfile
    settings: Settings
    worker: str

    def run(self, job_id: str) -> Ended:
        """Takes one job from its claim to its end. Raises only `StoreUnavailable`."""
        if self.coalescer.dead.is_set():
            return Ended.HANDED_BACK  # unclaimed: the sweeper rings again for a worker that can
        claim = self.store.claim(job_id, self.worker, self.settings.jobs.lease)
        if claim is Outcome.LATE:
            return Ended.NOT_OURS  # the sweeper ends it: it must cost no tokens
        if isinstance(claim, Outcome):
            log.info("%s not claimed: %s", job_id, claim)
            return Ended.NOT_OURS
        with self.leases.held(claim) as progress:
            return self._attempt(claim, progress)

    def _attempt(self, claim: Claim, progress: Progress) -> Ended:
        try:
            result = self._score(claim, progress)
        except Dropped:
            log.info("%s dropped: nobody waits for it any more", claim.job_id)
            return Ended.NOT_OURS
        except HandedBack:
            return self._release(claim)
        except EngineDied as error:
            deaths = claim.deaths + 1
            if deaths >= self.settings.jobs.max_deaths:
                return self._fail(
                    claim, Poisoned(f"{deaths} engines died with it, the last: {error.message}")
                )
            return self._release(claim, died=True)
        except PodiumError as error:
            return self._fail(claim, error)
        except Exception:  # a defect of ours must not leave a job to run again and again
            log.exception("%s failed in a way that was not foreseen", claim.job_id)
            return self._fail(claim, PodiumError("an internal error; the worker's log has it"))
        return self._end(claim, JobState.SUCCEEDED, result)

    def _score(self, claim: Claim, progress: Progress) -> Result:
        started = time.monotonic()
        engine, budget = self.engine, self.settings.limits.window_tokens
        built = prompts.build(claim.work, self.profile, engine.tokenizer, engine.info.max_tokens, budget)
        tokenized = time.monotonic()
        shares = claim.work.cache and self.settings.cache.enabled
        known = self.cache.look_up(built) if shares else nothing_known(built)
        asked = built.to_score(known.missing)
        looked_up = time.monotonic()
        batch = self._submit(claim, asked, shares=shares)
        sequences = built.sequences
        progress.scored = lambda: _documents_scored(batch, len(sequences), len(built.readings))
        progress.drop = lambda: self.coalescer.drop(batch)
        if progress.lost:
            progress.drop()
        outputs = batch.done.result()
        scored = time.monotonic()
        fresh = scores_of(asked, outputs, self.profile)
        self.cache.store(known, fresh)
        ranked, unscored = rank(claim.work, built, known.with_those(fresh))
        return Result(
            results=ranked,
            usage=Usage(
                total_tokens=sum(map(len, sequences)),
                documents=len(built.readings),
                cached=known.hits,
                shared=batch.shared,
            ),
            provenance=provenance(
                self.profile, engine.info, built.instruction, self.worker, claim.attempts + 1
            ),
            timings=Timings(
                queued=claim.queued_for,
                tokenize=tokenized - started,
                engine=scored - looked_up,
                total=claim.queued_for + time.monotonic() - started,
            ),
            query_cleaned=built.query_cleaned if claim.work.clean else None,
            warnings=(*built.warnings, *unscored),
        )

    def _submit(self, claim: Claim, sequences: Sequence[Prompt], *, shares: bool) -> Batch:
        """Into the coalescer. A job that was charged before is a suspect: it is noted before it goes in, so
        that whoever finds its lease lost knows whether it was this one that the engine had.
        """
        suspect = claim.attempts > 0

        def entering() -> None:
            try:
                lease = self.settings.jobs.lease
                self.store.renew([(claim.job_id, claim.generation, 0)], lease, inside=True)
            except StoreUnavailable as error:
                log.warning("%s goes in unnoted: %s", claim.job_id, error)

        return self.coalescer.submit(
            claim.job_id,
            claim.lane,
            sequences,
            shares=shares,
            suspect=suspect,
            entering=entering if suspect else None,
        )

    def _fail(self, claim: Claim, error: PodiumError) -> Ended:
        return self._end(claim, JobState.FAILED, Failure(code=error.code, message=error.message))

    def _end(self, claim: Claim, state: JobState, end: Result | Failure) -> Ended:
        ending = Ending(self.store, self.doorbell, self.settings)
        target, metadata = claim.callback, claim.work.metadata
        outcome = self._insist(
            lambda: ending.of(claim.job_id, claim.generation, state, end, target, metadata)
        )
        if outcome is not Outcome.OK:
            log.warning("stale write refused: %s generation %d: %s", claim.job_id, claim.generation, outcome)
            return Ended.NOT_OURS
        return Ended.SUCCEEDED if state is JobState.SUCCEEDED else Ended.FAILED

    def _release(self, claim: Claim, *, died: bool = False) -> Ended:
        outcome = self._insist(
            lambda: self.store.release(claim.job_id, claim.generation, charge=died, died=died)
        )
        log.info("%s handed back (charged: %s): %s", claim.job_id, died, outcome)
        if outcome is Outcome.OK:
            self.doorbell.announce(claim.job_id, claim.model, claim.lane)
            self.store.announced([claim.job_id])
        return Ended.HANDED_BACK

    def _insist(self, write: Callable[[], Outcome]) -> Outcome:
        """The answer to `write`, asked for again while Redis is away: a result is not thrown away for that.

        Raises `StoreUnavailable` once the worker leaves: then the lease ends, and another worker has the job.
        """
        for failures in count(1):
            try:
                return write()
            except StoreUnavailable as error:
                log.warning("not stored yet: %s", error)
                if self.coalescer.leaving.wait(PAUSES.compute(failures)):
                    raise
        raise AssertionError("count() does not end")


def _documents_scored(batch: Batch, sequences: int, documents: int) -> int:
    """In step with the job's sequences: a bi-encoder's query is one, and so is each window of a document.
    Those that the engine is not asked for are scored.
    """
    left = len(batch.outputs) - batch.scored
    return documents * (sequences - left) // max(1, sequences)
