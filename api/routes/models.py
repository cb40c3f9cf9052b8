"""Models: which are served here, and what each live worker says of the one that it has loaded."""

from importlib.metadata import version
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from api import problems
from api.auth import keyed
from jobs.errors import ModelNotFound, StoreUnavailable
from jobs.settings import Settings
from jobs.store import Store

router = keyed(prefix="/v1/models", tags=["models"], responses=problems.RESPONSES)


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
    return ModelsOut(data=_served(request))


@router.get(
    "/{model_id:path}",
    response_model_exclude_none=True,
    responses={404: {**problems.RESPONSES[422], "description": "No such model is served here"}},
)
def model(model_id: str, request: Request) -> ModelOut:
    """One of them."""
    found = next((model for model in _served(request) if model.id == model_id), None)
    if found is None:
        raise ModelNotFound(f"{model_id!r} is not served here; GET /v1/models lists what is")
    return found


info = keyed(tags=["models"], responses=problems.RESPONSES)


class InfoOut(BaseModel):
    """What Text Embeddings Inference says of itself, as far as it has a meaning here."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any] = Field(description="it is a reranker")
    max_input_length: int = Field(description="tokens of query, document and what is around them")
    max_client_batch_size: int = Field(description="documents of one request")
    auto_truncate: bool = False
    version: str


@info.get("/info", responses={503: problems.RESPONSES[503]})
def about(request: Request) -> InfoOut:
    """The default model, as its workers describe it. 503 while there is none."""
    settings: Settings = request.app.state.settings
    default = _served(request)[0]
    if not default.workers:
        raise StoreUnavailable(f"no worker serves {default.id} yet: try again shortly")
    worker = default.workers[0]
    return InfoOut(
        model_id=worker.source,
        model_sha=worker.revision,
        model_dtype=worker.dtype,
        model_type={"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        max_input_length=worker.max_tokens,
        max_client_batch_size=settings.limits.documents,
        version=version("podium"),
    )


def _served(request: Request) -> list[ModelOut]:
    store: Store = request.app.state.store
    settings: Settings = request.app.state.settings
    serving: list[dict[str, Any]] = [about["serves"] for about in store.workers() if "serves" in about]
    return [
        ModelOut(
            id=name,
            default=name == settings.model,
            workers=[WorkerOut.model_validate(about) for about in serving if about["model"] == name],
        )
        for name in settings.served
    ]
