"""The engines, started once each. Several vLLM engines in one process need a core process each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import tiny as checkpoints
from jobs.settings import EngineSettings, load
from worker import profiles
from worker.engines.base import Engine
from worker.engines.fake import FakeEngine
from worker.engines.vllm import VllmEngine
from worker.profiles import ModelProfile


@dataclass(frozen=True)
class Loaded:
    engine: Engine
    profile: ModelProfile
    folder: Path


def start(name: str, folder: Path | None = None, **changes: Any) -> Loaded:
    changes = {"dtype": "float32", **changes}
    profile = profiles.load(name, load({}).models_dir).model_copy(update=changes)
    path = str(folder) if folder else None
    settings = EngineSettings(separate_process=True, model_path=path, kv_cache_gib=1)
    return Loaded(VllmEngine(profile, settings), profile, Path(profile.locate(path)))


@pytest.fixture(scope="session")
def minilm() -> Iterator[Loaded]:
    loaded = start("minilm")
    yield loaded
    loaded.engine.close()


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """Where MiniLM's files lie, its tokenizer among them. Starts no engine."""
    return Path(profiles.load("minilm", load({}).models_dir).locate(None))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    loaded = start("qwen3-reranker-4b", checkpoints.qwen3(tmp_path_factory.mktemp("tiny-qwen3")))
    yield loaded
    loaded.engine.close()


@pytest.fixture(params=["fake", "minilm", "tiny"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "fake":
        return FakeEngine()
    loaded: Loaded = request.getfixturevalue(request.param)
    return loaded.engine
