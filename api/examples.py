"""The examples of `configs/examples.yaml`: the demo ranks them, the page offers them."""

import yaml
from pydantic import BaseModel, ConfigDict

from jobs.settings import ROOT


class Example(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    query: str
    documents: tuple[str, ...]
    best: int
    instruction: str | None = None


def load() -> list[Example]:
    found = yaml.safe_load((ROOT / "configs" / "examples.yaml").read_text(encoding="utf-8"))
    return [Example.model_validate(entry) for entry in found]
