"""Which of a caller's jobs are listed: what they have in common, and where a page begins."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from jobs.model import Job, Lane
from jobs.states import JobState

Place = tuple[int, str]
"""Of a job in its owner's list: when it was created (ms), and its id."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _rfc_3339(value: Any) -> Any:
    """pydantic also takes dates without a time, and numbers."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", value):
        raise ValueError("a date and a time with its offset, such as 2026-11-26T09:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]


class Only(BaseModel):
    """Filters of `GET /v1/jobs`; all that are given must fit."""

    model_config = ConfigDict(frozen=True)

    status: JobState | None = Field(None, description="jobs in this state")
    model: str | None = Field(None, description="jobs for this model")
    lane: Lane | None = None
    created_after: Moment | None = Field(None, description="jobs created then or later")
    created_before: Moment | None = None
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,15}-[0-9a-f-]{1,36}$")] | None = Field(
        None, description="`next_cursor` of the page before"
    )
    limit: int = Field(50, ge=1, le=200, description="jobs of a page")

    @property
    def first(self) -> int:
        """The time (ms) of the oldest job that is listed."""
        return -1 if self.created_after is None else _milliseconds(self.created_after)

    @property
    def before(self) -> Place | None:
        """The place after which this page begins; None for the newest job."""
        places: list[Place] = []
        if self.created_before is not None:
            places.append((_milliseconds(self.created_before), ""))
        if self.cursor is not None:
            at, _, job_id = self.cursor.partition("-")
            places.append((int(at), job_id))
        return min(places, default=None)

    def wants(self, job: Job) -> bool:
        """Whether the job is listed, its time aside."""
        return (
            self.status in (None, job.state)
            and self.model in (None, job.model)
            and self.lane in (None, job.lane)
        )


def _milliseconds(moment: datetime) -> int:
    """Rounded up: a job of the same millisecond, and before, was created before."""
    return -((EPOCH - moment) // timedelta(milliseconds=1))
