"""Each profile with a tiny checkpoint of its architecture: it loads, and gives the reference's scores.

MiniLM's and Qwen3-Reranker-4B's are in test_parity, 0.6B's original also in tests/system/test_score_parity.
"""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench import tiny as checkpoints
from jobs.model import Document, Work
from jobs.settings import load
from tests.engines.conftest import Loaded, start
from tests.engines.test_conformance import outputs
from tests.support.reference import Reference
from worker import profiles, prompts
from worker.engines.vllm import FastTokenizer, engine_arguments
from worker.layouts import layout_of
from worker.ranking import rank, scores_of

QUERY = "what is panda?"
DOCUMENTS = (
    "hi",
    "The giant panda is a bear species endemic to China.",
    "",
    "北京 是 中国 的 首都",
    "lighthouses guide ships " * 30,
    "</s> <s> [SEP] <|im_end|>",
    "panda " * 700,
)
NAMES = sorted(path.stem for path in load({}).models_dir.glob("*.yaml"))


def scores(loaded: Loaded) -> list[float | None]:
    work = Work(query=QUERY, documents=tuple(Document(text=text) for text in DOCUMENTS))
    engine = loaded.engine
    built = prompts.build(work, loaded.profile, engine.tokenizer, engine.info.max_tokens)
    scores = scores_of(built.sequences, outputs(engine, built.sequences), loaded.profile)
    ranked, _ = rank(work, built, scores)
    return [entry.relevance_score for entry in sorted(ranked, key=lambda entry: entry.index)]


def of_the_recipe(checkpoint: Path) -> list[float]:
    reference = Reference(checkpoint)
    return [reference.score(reference.ids(QUERY, text, 32_768)) for text in DOCUMENTS]


def of_a_pair_encoder(checkpoint: Path, max_tokens: int) -> list[float]:
    """Sigmoid of the one logit, as the model cards of bge-reranker-v2-m3 and of MS MARCO's encoders do."""
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    found = []
    for text in DOCUMENTS:
        inputs = tokenizer(
            [QUERY],
            [text],
            truncation="only_second",
            max_length=max_tokens,
            return_tensors="pt",
            split_special_tokens=True,
        )
        with torch.no_grad():
            found.append(torch.sigmoid(model(**inputs).logits[0, 0]).item())
    return found


def check(name: str, checkpoint: Path, expected: list[float], **changes: Any) -> None:
    loaded = start(name, checkpoint, **changes)
    with closing(loaded.engine):
        assert scores(loaded) == pytest.approx(expected, abs=1e-5)
    assert torch.tensor(expected).std() > 1e-2, "scores that are all alike would show nothing"


def test_an_engines_arguments_are_found_without_starting_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has started CUDA can't fork one that uses it, and vLLM forks its core."""

    def started() -> bool:
        raise AssertionError("this starts CUDA where there is a GPU")

    for question in ("is_available", "device_count", "current_device", "init", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, question, started)
    settings = load({})
    arguments, _ = engine_arguments(profiles.load("minilm", settings.models_dir), settings.engine)
    assert arguments["runner"] == "pooling"


def test_float32_is_not_rounded_to_tf32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's products would be: MiniLM failed its golden gate on an H200."""
    settings = load({})
    minilm = profiles.load("minilm", settings.models_dir)
    for dtype, before, then in [
        ("bfloat16", None, None),
        ("float32", None, "ieee"),
        ("float32", "tf32", "tf32"),
    ]:
        # Set first also where it is deleted then: so it is put back after the test.
        monkeypatch.setenv("TRITON_F32_DEFAULT", before or "")
        if before is None:
            monkeypatch.delenv("TRITON_F32_DEFAULT")
        engine_arguments(minilm.model_copy(update={"dtype": dtype}), settings.engine)
        assert os.environ.get("TRITON_F32_DEFAULT") == then


def test_qwen3_reranker_8b_has_a_head_of_its_own(tmp_path: Path) -> None:
    checkpoint = checkpoints.qwen3(tmp_path, seed=21, tied=False)
    check("qwen3-reranker-8b", checkpoint, of_the_recipe(checkpoint))


def test_a_converted_qwen3_reranker_gives_the_originals_scores(tmp_path: Path) -> None:
    original = checkpoints.qwen3(tmp_path / "original", seed=22)
    converted = checkpoints.qwen3_seq_cls(tmp_path / "converted", original)
    check("qwen3-reranker-0.6b", converted, of_the_recipe(original))


def test_bge_reranker_v2_m3(tmp_path: Path) -> None:
    checkpoint = checkpoints.xlm_roberta(tmp_path)
    check("bge-reranker-v2-m3", checkpoint, of_a_pair_encoder(checkpoint, 8_192))


def test_a_pair_encoder_with_token_types(tmp_path: Path, minilm_folder: Path) -> None:
    checkpoint = checkpoints.bert(tmp_path, minilm_folder)
    check("bge-reranker-v2-m3", checkpoint, of_a_pair_encoder(checkpoint, 512), max_tokens=512)


@pytest.mark.parametrize("make", [checkpoints.xlm_roberta, "bert"])
@pytest.mark.parametrize("max_tokens", [512, 24])
def test_pairs_are_encoded_and_cut_as_the_tokenizer_does(
    tmp_path: Path, minilm_folder: Path, make: Callable[[Path], Path] | str, max_tokens: int
) -> None:
    checkpoint = checkpoints.bert(tmp_path, minilm_folder) if isinstance(make, str) else make(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    profile = profiles.load("bge-reranker-v2-m3", load({}).models_dir)
    layout = layout_of(profile, FastTokenizer(checkpoint), QUERY, None)
    for text, whole in zip(DOCUMENTS, layout.encode(DOCUMENTS), strict=True):
        ours = layout.cut(whole, max_tokens)
        theirs = tokenizer(
            [QUERY],  # a batch, as the model cards do: alone, an empty text is no text at all
            [text],
            truncation="only_second",
            max_length=max_tokens,
            split_special_tokens=True,
            return_token_type_ids=True,
        )
        assert list(ours.ids) == theirs["input_ids"][0], text[:40]
        types = theirs["token_type_ids"][0]
        assert ours.second_from == (types.index(1) if 1 in types else None)


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_can_be_used_and_carries_golden_pairs(name: str) -> None:
    profile = profiles.load(name, load({}).models_dir)
    assert profile.name == name
    assert sum(len(case.documents) for case in profile.golden.cases) >= 2
