"""Model profiles: `configs/models/*.yaml` says all that a model needs to give right scores."""

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, UnknownModel


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Part):
    """Where the model comes from: a folder inside an installed package, or a name on a model hub."""

    package: str | None = None
    folder: str = ""
    hub: str | None = None


class Template(Part):
    """The prompt around a pair, in the pieces that are tokenized. No template engine touches them."""

    prefix: str
    before_document: str = Field(description="with {instruction} and {query}")
    suffix: str


class ModelProfile(Part):
    name: str
    description: str
    source: Source
    kind: Literal["bi-encoder", "cross-encoder"]
    score: Literal["cosine", "probability"]
    dtype: str = "auto"
    max_tokens: int | None = Field(None, gt=0, description="shortens the model's own window")
    instruction: str | None = Field(None, description="the default; None: the model takes no instruction")
    template: Template | None = None
    hf_overrides: dict[str, Any] = Field(default_factory=dict)

    @property
    def template_hash(self) -> str | None:
        """Twelve hex digits that change with any character of the template; None without one."""
        if self.template is None:
            return None
        return hashlib.sha256(self.template.model_dump_json().encode()).hexdigest()[:12]

    @property
    def origin(self) -> str:
        return self.source.hub or f"package {self.source.package}"

    def locate(self, override: str | None) -> str:
        """A folder, or a hub name. `ConfigurationError` says what to install."""
        if override is not None:
            if not Path(override).is_dir():
                raise ConfigurationError(f"PODIUM_ENGINE__MODEL_PATH={override} is not a folder")
            return override
        if self.source.hub is not None:
            return self.source.hub
        found = importlib.util.find_spec(self.source.package or "")
        if found is None or found.origin is None:
            raise ConfigurationError(
                f"the model {self.name} comes with the package {self.source.package}: run `make setup`"
            )
        return str(Path(found.origin).parent / self.source.folder)

    def relevance(self, query: Sequence[float] | None, document: Sequence[float]) -> float:
        """The score of one document from the engine's outputs.

        Cosine of two embeddings (-1 to 1), or the engine's own probability (0 to 1): softmax over the logits
        of `no` and `yes`, as Qwen3-Reranker's model card computes it.
        """
        if self.kind == "cross-encoder":
            return document[0]
        if query is None:
            raise ValueError("a bi-encoder needs the query's embedding")
        norms = math.sqrt(math.fsum(x * x for x in query)) * math.sqrt(math.fsum(x * x for x in document))
        dot = math.fsum(x * y for x, y in zip(query, document, strict=True))
        return dot / norms if norms > 0 else math.nan


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
