"""What made a score: the same in each result, in a worker's heartbeat and in `GET /v1/models`."""

from jobs.model import Provenance
from worker.engines.base import EngineInfo
from worker.profiles import ModelProfile


def provenance(
    profile: ModelProfile, info: EngineInfo, instruction: str | None, worker: str, attempt: int
) -> Provenance:
    """Of one attempt at a job. Results whose provenance differs in worker and attempt only are comparable."""
    return Provenance(
        model=profile.name,
        source=info.source,
        revision=info.revision,
        score=profile.score_kind,
        template_hash=profile.template_hash,
        instruction=instruction,
        dtype=info.dtype,
        engine=info.name,
        engine_version=info.version,
        batch_invariant=info.batch_invariant,
        worker=worker,
        attempt=attempt,
    )
