"""The books: what became of every job, and whether that is right."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.model import Job
from jobs.store import Store
from tests.chaos.load import POISONS, Load


@dataclass(frozen=True)
class Ledger:
    """`jobs`: as the store has each accepted one. `recoveries`: seconds, of jobs whose worker was killed."""

    load: Load
    jobs: Sequence[Job | None]
    recoveries: Sequence[float]
    stale_writes_refused: int
    lease: float

    @property
    def delivered(self) -> int:
        return sum(job is not None and job.callback_state == "delivered" for job in self.jobs)

    @property
    def p99(self) -> float:
        ordered = sorted(self.recoveries)
        return ordered[max(0, round(len(ordered) * 0.99) - 1)] if ordered else 0.0

    @property
    def book(self) -> dict[str, float]:
        ended = [job for job in self.jobs if job is not None and job.state.terminal]
        states = Counter(job.state.value for job in ended)
        return {
            "submitted": len(self.load.accepted),
            **{name: states[name] for name in ("succeeded", "failed", "cancelled", "expired")},
            "lost": len(self.load.accepted) - len(ended),
            "duplicated": len(self.load.accepted)
            - len(set(self.load.accepted))
            + sum(job.ends > 1 for job in ended),
            "stale_writes_refused": self.stale_writes_refused,
            "stale_writes_accepted": sum(_by_another(job) for job in ended),
            "callbacks_delivered": self.delivered,
            "recoveries": len(self.recoveries),
            "recovery_p99_s": round(self.p99, 1),
        }

    def faults(self) -> list[str]:
        """What does not balance: nothing, if all is well."""
        book, wrong = self.book, []
        if len(self.load.accepted) != self.load.jobs:
            missing = self.load.jobs - len(self.load.accepted)
            wrong.append(f"{missing} requests were not accepted: {self.load.refused[:2]}")
        if book["lost"] or book["duplicated"]:
            wrong.append("jobs were lost or ended more than once")
        if book["stale_writes_accepted"]:
            wrong.append("a worker that had lost its lease ended a job of another")
        if self.delivered != len(self.load.called_back):
            wrong.append(f"{self.delivered} callbacks for {len(self.load.called_back)} jobs with one")
        codes = Counter(job.error.code for job in self.jobs if job and job.error and job.state == "failed")
        if set(codes) - {"poison"}:
            wrong.append(f"jobs failed for no good reason: {dict(codes)}")
        if codes["poison"] > POISONS:
            wrong.append(f"{codes['poison']} jobs are failed as poison; {POISONS} are")
        if self.p99 > self.lease + 10:
            wrong.append(f"recovery took {self.p99:.1f} s, more than the lease and 10 s")
        return wrong

    def line(self) -> str:
        return json.dumps(self.book)


def open_jobs(store: Store, load: Load) -> int:
    """Accepted jobs that have not ended, or whose callback is not settled."""
    jobs = [store.get(job_id) for job_id in load.accepted]
    return sum(job is None or not job.state.terminal or job.callback_state == "pending" for job in jobs)


def _by_another(job: Job) -> bool:
    """Was its result written by another worker than the one that claimed it last?"""
    return job.result is not None and job.result.provenance.worker != job.worker
