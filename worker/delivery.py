"""Step 9: one attempt to deliver a callback, as typed steps: load, sign, post, settle."""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore

from jobs.callback import CallbackRecord, next_wait
from jobs.errors import CallbackForbidden
from jobs.states import CallbackState, Outcome
from jobs.store import Store
from worker import signing
from worker.counts import Counts
from worker.egress import Egress

log = logging.getLogger(__name__)

GONE = 410
"""The target says that it wants no more of this."""


@dataclass(frozen=True)
class Delivery:
    store: Store
    egress: Egress
    secret: str
    hold: timedelta
    attempts: Counts = field(default_factory=lambda: Counts(CallbackState))
    """By the state that each one left its callback in."""

    def deliver(self, job_id: str) -> str:
        """Makes the attempt that is due. The schedule rests in Redis: nothing here waits or retries."""
        claimed = self.store.claim_callback(job_id, self.hold)
        record = self.store.callback(job_id)
        if claimed is not Outcome.OK or record is None:
            return f"not attempted: {claimed}"
        attempt = self._attempt(record, record.body)
        state, wait = _judge(attempt, len(record.attempts) + 1 - record.replayed_after)
        self.store.settle_callback(job_id, state, attempt, wait)
        self.attempts.add(state)
        log.info("callback of %s: %s (%s)", job_id, state.value, attempt["answer"])
        return state.value

    def _attempt(self, record: CallbackRecord, body: str) -> dict[str, Any]:
        now = datetime.now(UTC)
        started = time.monotonic()
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "podium",
            **signing.headers(self.secret, f"msg_{record.job_id}", body, now),
        }
        status: int | None = None
        try:
            status, answer = self.egress.post(record.target.url, headers, body.encode())
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            answer = f"{type(error).__name__}: {error}"
        except (CallbackForbidden, httpcore.UnsupportedProtocol) as error:
            answer = str(error)
        return {
            "at": now.isoformat(),
            "status": status,
            "answer": answer[:500],
            "seconds": round(time.monotonic() - started, 3),
        }


def _judge(attempt: dict[str, Any], number: int) -> tuple[CallbackState, timedelta | None]:
    """The callback's next state after that many attempts (since a replay), and the wait until the next."""
    status = attempt["status"]
    if status is not None and 200 <= status < 300:
        return CallbackState.DELIVERED, None
    wait = None if status == GONE else next_wait(number)
    return (CallbackState.EXHAUSTED if wait is None else CallbackState.PENDING), wait
