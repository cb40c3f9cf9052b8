"""Looks at jobs, shared by all who want to see the same one at the same moment."""

import asyncio
from functools import cached_property

from api.accepting import no_such
from api.schemas import job_out
from jobs.async_store import AsyncStore
from jobs.model import Job
from jobs.settings import Settings


class Look:
    """A job as it is at one moment, and what is sent of it."""

    def __init__(self, job: Job, url: str) -> None:
        self.job = job
        self._url = url

    @cached_property
    def json(self) -> bytes:
        """A `JobOut`, made once for all who see it."""
        return job_out(self.job, self._url).model_dump_json(exclude_none=True).encode()


class Looks:
    def __init__(self, jobs: AsyncStore, settings: Settings) -> None:
        self._jobs = jobs
        self._settings = settings
        self._coming: dict[str, asyncio.Task[Look | None]] = {}

    async def at(self, job_id: str, owner: str) -> Look:
        """The job, read after this was called. Raises `JobNotFound` if it is not the caller's."""
        coming = self._coming.get(job_id)
        if coming is None:
            coming = self._coming[job_id] = asyncio.create_task(self._look(job_id))
            coming.add_done_callback(_heard)
        look = await asyncio.shield(coming)  # one who gives up takes nothing from the others
        if look is None or look.job.owner != owner:
            raise no_such(job_id)
        return look

    async def _look(self, job_id: str) -> Look | None:
        await asyncio.sleep(0)  # those who were woken with the first one come along
        del self._coming[job_id]
        job = await self._jobs.get(job_id)
        return None if job is None else Look(job, self._settings.job_url(job_id))


def _heard(look: "asyncio.Task[Look | None]") -> None:
    """An error is nobody's, and no news, where all who looked have gone."""
    if not look.cancelled():
        look.exception()
