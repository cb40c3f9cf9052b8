"""Every error that Podium can name: one hierarchy, a stable code each.

`code` is part of the API and never changes its meaning; `message` is fit for the caller's eyes;
`retryable` says whether the same request may go well later. HTTP statuses are given in `api/problems`.
"""

from datetime import timedelta
from typing import ClassVar


class PodiumError(Exception):
    """Base of all. `field` is the JSON path of the offending input, if there is one."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(PodiumError):
    """The input can't be accepted as it is."""

    code = "invalid_request"


class UnknownModel(PodiumError):
    """No profile has that name, or this installation does not serve it."""

    code = "unknown_model"


class ModelNotFound(UnknownModel):
    """The path names a model that is not served here."""

    code = "model_not_found"


class CallbackForbidden(PodiumError):
    """The callback's target may not be called from here."""

    code = "callback_forbidden"


class TooLarge(PodiumError):
    """A limit of `settings.limits` is exceeded."""

    code = "too_large"


class QueueFull(PodiumError):
    """The job's lane has no room for it now. `retry_after`: when there will be; None if nothing drains it."""

    code = "queue_full"
    retryable = True

    def __init__(self, message: str, *, retry_after: timedelta | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(PodiumError):
    """No key, or a wrong one."""

    code = "unauthorized"


class JobNotFound(PodiumError):
    """No such job, or not this key's."""

    code = "job_not_found"


class AlreadyEnded(PodiumError):
    """The job is in a terminal state: there is nothing to cancel."""

    code = "already_ended"


class NotEnded(PodiumError):
    """The job is still open: it can't be erased."""

    code = "not_ended"


class NotRetryable(PodiumError):
    """The job has not failed, or its documents are no longer kept."""

    code = "not_retryable"


class CallbackNotFound(PodiumError):
    """The job has no callback, or its record is no longer kept."""

    code = "callback_not_found"


class CallbackPending(PodiumError):
    """The callback is still being tried: there is nothing to replay."""

    code = "callback_pending"


class IdempotencyConflict(PodiumError):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_conflict"


class JobErased(PodiumError):
    """The Idempotency-Key belongs to a job that is no longer kept."""

    code = "job_erased"


class Cancelled(PodiumError):
    """The caller took the job back."""

    code = "cancelled"


class Expired(PodiumError):
    """A deadline of the job passed before it could start or end."""

    code = "expired"


class StoreUnavailable(PodiumError):
    """Redis can't be reached, or refuses writes."""

    code = "store_unavailable"
    retryable = True


class QueryTooLong(PodiumError):
    """Instruction and query alone fill the model's window: no document would fit."""

    code = "query_too_long"


class ScoringFailed(PodiumError):
    """The engine answered with something that is not a score."""

    code = "scoring_failed"


class EngineDied(PodiumError):
    """The engine ended while it held the job. The job itself may be innocent."""

    code = "engine_died"
    retryable = True


class Poisoned(PodiumError):
    """The job's worker died or lost its lease too many times in a row."""

    code = "poison"


class ConfigurationError(PodiumError):
    """Settings or a model profile can't be used; the message says what to change."""

    code = "configuration"
