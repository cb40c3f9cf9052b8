"""Model profiles: `configs/models/*.yaml` says all that a model needs to give right scores."""

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from jobs.errors import ConfigurationError, UnknownModel


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Part):
    """Where the model comes from: a name on a model hub, a folder, or one inside an installed package."""

    package: str | None = None
    folder: str = Field("", description="inside the package; without one a path by itself")
    hub: str | None = None
    revision: str | None = Field(None, description="a commit of the hub's; None: the newest")


class Template(Part):
    """The prompt around a pair, in the pieces that are tokenized. No template engine touches them."""

    prefix: str
    before_document: str = Field(
        description="with {query}, and {instruction} if there is one", pattern=r"\{query\}"
    )
    suffix: str

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with any character."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class GoldenCase(Part):
    """A query and documents of which it is known what a right installation makes: see `worker.golden`."""

    query: str
    instruction: str | None = None
    documents: tuple[str, ...] = Field(min_length=2, description="the most relevant first")
    scores: tuple[FiniteFloat, ...] | None = Field(None, description="of the reference, where they are known")

    @model_validator(mode="after")
    def _a_score_each(self) -> "GoldenCase":
        if self.scores is not None and len(self.scores) != len(self.documents):
            raise ValueError(f"{len(self.scores)} scores for {len(self.documents)} documents")
        return self


class Golden(Part):
    source: str = Field(description="where order and scores come from")
    tolerance: FiniteFloat = Field(1e-4, gt=0, description="how far a score may be from the reference's")
    cases: tuple[GoldenCase, ...] = Field(min_length=1)


class ModelProfile(Part):
    name: str
    description: str
    source: Source
    kind: Literal["bi-encoder", "cross-encoder"]
    score: Literal["softmax", "sigmoid", "cosine", "raw"]
    dtype: str = "auto"
    max_tokens: int | None = Field(None, gt=0, description="shortens the model's own window")
    kv_cache_gib: int = Field(1, gt=0, description="on a CPU: room for at least one sequence of max_tokens")
    batch_invariant: bool = Field(
        False, description="vLLM's mode in which a score does not depend on its batch, at a cost; GPU only"
    )
    instruction: str | None = Field(None, description="the default; None: the model takes no instruction")
    template: Template | None = None
    template_hash: str | None = Field(None, description="pins every character of the template")
    tokens: dict[str, int] = Field(
        default_factory=dict, description="words from whose logits the score is computed, and their ids"
    )
    hf_overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="for a checkpoint that does not have the overrides' architecture yet",
    )
    golden: Golden

    @model_validator(mode="after")
    def _template_is_the_pinned_one(self) -> "ModelProfile":
        found = None if self.template is None else self.template.digest
        if found != self.template_hash:
            raise ValueError(
                f"the template's hash is {found}, and template_hash pins {self.template_hash}: a lost "
                "newline is enough to make all scores wrong. If the change is meant, pin the new hash"
            )
        return self

    @model_validator(mode="after")
    def _has_a_source(self) -> "ModelProfile":
        if not (self.source.hub or self.source.package or self.source.folder):
            raise ValueError("the source needs hub, package or folder")
        return self

    @model_validator(mode="after")
    def _kind_and_score_fit(self) -> "ModelProfile":
        if (self.kind == "bi-encoder") != (self.score == "cosine"):
            raise ValueError(f"score {self.score} is not one that a {self.kind} has")
        return self

    @property
    def origin(self) -> str:
        """What callers are told: never where on this machine a folder lies."""
        if self.source.package is not None:
            return f"package {self.source.package}"
        return self.source.hub or f"folder {Path(self.source.folder).name}"

    @property
    def score_kind(self) -> str:
        """What callers are told that a score is: probability (0 to 1), cosine (-1 to 1), or logit."""
        return {"softmax": "probability", "sigmoid": "probability", "raw": "logit"}.get(
            self.score, self.score
        )

    def locate(self, override: str | None) -> str:
        """A folder, or a hub name. `ConfigurationError` says what to install."""
        if override is not None:
            if not Path(override).is_dir():
                raise ConfigurationError(f"PODIUM_ENGINE__MODEL_PATH={override} is not a folder")
            return override
        if self.source.hub is not None:
            return self.source.hub
        if self.source.package is None:
            if not Path(self.source.folder).is_dir():
                raise ConfigurationError(f"the folder of {self.name}, {self.source.folder}, is not there")
            return self.source.folder
        found = importlib.util.find_spec(self.source.package)
        if found is None or found.origin is None:
            raise ConfigurationError(
                f"the model {self.name} comes with the package {self.source.package}: run `make setup`"
            )
        return str(Path(found.origin).parent / self.source.folder)

    def relevance(self, query: Sequence[float] | None, document: Sequence[float]) -> float:
        """The score of one document from the engine's outputs.

        cosine: of the two embeddings. softmax: over the logits of two classes, the second of which means
        relevant, as Qwen3-Reranker's model card computes it from `no` and `yes`; an engine that gives their
        difference alone gives the same. sigmoid: of the one logit. raw: the one logit itself.
        """
        match self.score:
            case "raw":
                return document[0]
            case "sigmoid":
                return _sigmoid(document[0])
            case "softmax":
                return _sigmoid(document[-1] - (document[0] if len(document) == 2 else 0.0))
        if query is None:
            raise ValueError("a bi-encoder needs the query's embedding")
        norms = math.hypot(*query) * math.hypot(*document)
        dot = math.fsum(map(mul, query, document))
        return dot / norms if norms > 0 else math.nan


def _sigmoid(logit: float) -> float:
    if math.isnan(logit):
        return logit
    # Two forms, since exp of a large number overflows.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def load(name: str, folder: Path) -> ModelProfile:
    """The profile `name`. `UnknownModel` if there is none; `ConfigurationError` if it can't be used."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise UnknownModel(f"no profile of the name {name!r}; there are: {known}", field="model")
    try:
        return ModelProfile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigurationError(f"the model profile {path.name} can't be used: {error}") from error
