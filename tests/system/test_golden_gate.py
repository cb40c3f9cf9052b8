"""A worker whose scores are not the reference's does not serve, and says why."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import tiny
from jobs.settings import load
from tests.support.podium_up import clean_environ
from tests.support.reference import Reference
from worker.profiles import Golden, Template

pytestmark = pytest.mark.engine

QUERY = "Which lighthouse is the oldest?"
DOCUMENTS = (
    "The oldest lighthouse stands in Spain.",
    "A glacier is a river of ice.",
    "Bread is baked at night.",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen3(tmp_path_factory.mktemp("checkpoint"), seed=5)


@pytest.fixture(scope="module")
def golden(checkpoint: Path) -> Golden:
    return Reference(checkpoint).golden(QUERY, DOCUMENTS)


def profile(folder: Path, checkpoint: Path, golden: Golden, **changes: Any) -> Path:
    tiny.profile(folder, "tiny", "qwen3-reranker-0.6b", checkpoint, golden, **changes)
    return folder


def worker(models: Path) -> "subprocess.Popen[str]":
    """Starts `podium worker score`. There is no Redis: it must not come so far."""
    environ = {
        **clean_environ(),
        "PODIUM_MODELS_DIR": str(models),
        "PODIUM_REDIS_URL": "redis://127.0.0.1:1/0",
        "PODIUM_ENGINE__KV_CACHE_GIB": "1",
    }
    command = [sys.executable, "-m", "cli", "worker", "score", "--model", "tiny"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def template(**changes: str) -> dict[str, Any]:
    """The template with some piece changed, and its hash pinned anew: only the golden pairs can tell."""
    real = yaml.safe_load((load({}).models_dir / "qwen3-reranker-0.6b.yaml").read_text(encoding="utf-8"))
    changed = Template(**{**real["template"], **changes})
    return {"template": changed.model_dump(), "template_hash": changed.digest}


SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_a_lost_newline_and_a_swapped_yes_and_no_are_refused(
    tmp_path: Path, checkpoint: Path, golden: Golden
) -> None:
    newline = template(suffix=SUFFIX.removesuffix("\n"))
    swapped = {
        "hf_overrides": {
            "architectures": ["Qwen3ForSequenceClassification"],
            "classifier_from_token": ["yes", "no"],
            "is_original_qwen3_reranker": True,
        }
    }
    workers = [
        worker(profile(tmp_path / name, checkpoint, golden, **changes))
        for name, changes in (("newline", newline), ("swapped", swapped))
    ]
    said = [process.communicate(timeout=200)[1] for process in workers]
    for process, text in zip(workers, said, strict=True):
        assert process.returncode == 2, text
        assert "podium: tiny does not give its reference's scores, so it is not served" in text
        assert repr(QUERY) in text
        assert (
            f"expected {golden.cases[0].scores[0] if golden.cases[0].scores else 0:.6f} within 1e-05, seen"
            in text
        )
    assert f"expected {golden.cases[0].documents[0]!r} above {golden.cases[0].documents[1]!r}" in said[1]


def test_a_template_that_is_not_the_pinned_one_is_refused_before_anything_starts(
    tmp_path: Path, checkpoint: Path, golden: Golden
) -> None:
    changed = {"template": template(suffix=SUFFIX.removesuffix("\n"))["template"]}
    process = worker(profile(tmp_path, checkpoint, golden, **changed))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "a lost newline is enough" in said


def test_a_checkpoint_with_other_tokens_is_refused_before_its_engine_starts(
    tmp_path: Path, checkpoint: Path, golden: Golden
) -> None:
    process = worker(profile(tmp_path, checkpoint, golden, tokens={"no": 9693, "yes": 2152}))
    _, said = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "says that 'no' is token 9693; this tokenizer makes [2152] of it" in said
