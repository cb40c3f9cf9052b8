"""Models: which are served here, and what each live worker says of the one that it has loaded."""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from api import problems
from api.auth import bearer
from jobs.settings import Settings
from jobs.store import Store

router = APIRouter(
    prefix="/v1/models", tags=["models"], dependencies=[Depends(bearer)], responses=problems.RESPONSES
)


class GoldenOut(BaseModel):
    """The pairs that the worker has scored before it took work, and how far it was from the reference."""

    pairs: int
    largest_difference: float | None = Field(None, description="null: the reference's scores are not known")


class WorkerOut(BaseModel):
    """A worker that takes jobs now. All but `worker` and `golden` is in the provenance of its results."""

    worker: str
    source: str
    revision: str
    score: str
    template_hash: str | None = None
    instruction: str | None = Field(None, description="the default; null: the model takes none")
    dtype: str
    engine: str
    engine_version: str
    batch_invariant: bool
    max_tokens: int = Field(description="of query, document and what the model needs around them")
    golden: GoldenOut | None = None


class ModelOut(BaseModel):
    """`id` is what a job calls it. Without workers its jobs wait."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str = "podium"
    default: bool
    workers: list[WorkerOut]


class ModelsOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


@router.get("", response_model_exclude_none=True)
def models(request: Request) -> ModelsOut:
    """The models that jobs may name, the default first."""
    store: Store = request.app.state.store
    settings: Settings = request.app.state.settings
    serving: list[dict[str, Any]] = [about["serves"] for about in store.workers() if "serves" in about]
    return ModelsOut(
        data=[
            ModelOut(
                id=name,
                default=name == settings.model,
                workers=[WorkerOut.model_validate(about) for about in serving if about["model"] == name],
            )
            for name in settings.served
        ]
    )
