"""Through HTTP, the scores of Qwen3-Reranker's architecture are the model card's recipe's, to 1e-5.

Three random checkpoints in float32, each served by a worker of its own, and texts that hypothesis makes up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import tiny
from tests.support.parts import Parts, parts
from tests.support.reference import INSTRUCTION, Reference
from tests.support.waiting import until
from worker.engines.vllm import FastTokenizer
from worker.layouts import layout_of
from worker.profiles import load

pytestmark = pytest.mark.engine

SEEDS = (1, 2, 3)
WINDOW = 512
"""Tokens that the tiny models are allowed to read: long documents are cheap to make."""

PIECES = (
    "The capital of China is Beijing.",
    "北京是中国的首都。",
    "What is the capital of 中国?",
    "def f(x):\n\treturn x  # code\r\n",
    "    indented",
    "مرحبا بالعالم",
    "שלום עולם",
    "🚀👩‍🚀🇫🇷",
    "naïve Å “quoted”",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|endoftext|>",
    "<Document>: {query}",
    "\n",
    "\n\n",
    " ",
    "\t",
    "1234567890",
    "yes",
    "no",
)

texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(" ".join),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60),
    st.sampled_from(["", " ", "\n", "\n\n", " \n \t "]),
    st.text("abc \n", min_size=1, max_size=20).map(lambda text: f"\n{text}\n"),
)
long_texts = st.tuples(texts.filter(str.strip), st.integers(300, 900)).map(
    lambda pair: f"{pair[0]} " * pair[1]
)
queries = texts.filter(lambda text: bool(text.strip()) and not text.startswith("[instruct]"))


@dataclass(frozen=True)
class Served:
    running: Parts
    references: dict[str, Reference]
    tokenizer: FastTokenizer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("parity")
    references = {}
    for seed in SEEDS:
        checkpoint = tiny.qwen3(folder / f"checkpoint-{seed}", seed=seed)
        reference = Reference(checkpoint)
        golden = reference.golden("What is the capital of China?", PIECES[:4])
        name = tiny.profile(
            folder / "models", f"tiny-{seed}", "qwen3-reranker-0.6b", checkpoint, golden, max_tokens=WINDOW
        )
        references[name] = reference
    names = list(references)
    with parts(
        folder,
        "api",
        PODIUM_ENGINE__KIND="vllm",
        PODIUM_ENGINE__KV_CACHE_GIB="1",
        PODIUM_MODELS_DIR=str(folder / "models"),
        PODIUM_MODEL=names[0],
        PODIUM_MODELS=",".join(names),
    ) as running:
        for name in names:
            running.start_blindly(f"score-{name}", PODIUM_MODEL=name)

        def all_serve() -> bool:
            running.stack.check()
            return len(running.store.workers()) == len(names)

        until("the workers serve", all_serve, 200)
        yield Served(running, references, FastTokenizer(folder / "checkpoint-1"))


@given(
    st.sampled_from(range(len(SEEDS))),
    queries,
    st.lists(st.one_of(texts, texts, texts, long_texts), min_size=10, max_size=10),
)
@settings(max_examples=50, suppress_health_check=list(HealthCheck))
def test_500_pairs_through_http_have_the_references_scores_to_1e_5(
    served: Served, model: int, query: str, documents: list[str]
) -> None:
    name, reference = list(served.references.items())[model]
    ids = [reference.ids(query, document, WINDOW) for document in documents]
    results = ranked(served.running, model=name, query=query, documents=documents)
    expected = [reference.score(prompt) for prompt in ids]
    assert [entry["relevance_score"] for entry in results] == pytest.approx(expected, abs=1e-5)
    assert [entry["tokens"] for entry in results] == [len(prompt) for prompt in ids]
    cut = [len(reference.ids(query, document, 10**6)) > WINDOW for document in documents]
    assert [entry["status"] == "truncated" for entry in results] == cut


def ranked(running: Parts, **job: Any) -> list[dict[str, Any]]:
    """The results of a job in the order of its documents."""
    answer = running.call("POST", "/v1/jobs", json=job, headers={"Prefer": "wait=30"}).json()
    assert answer["status"] == "succeeded", answer
    return sorted(answer["results"], key=lambda entry: int(entry["index"]))


@given(queries, texts)
@settings(max_examples=500, suppress_health_check=list(HealthCheck))
def test_token_ids_are_the_references_id_by_id(served: Served, query: str, document: str) -> None:
    name, reference = next(iter(served.references.items()))
    profile = load(name, served.running.settings.models_dir)
    layout = layout_of(profile, served.tokenizer, query, INSTRUCTION)
    (ours,) = layout.encode([document])
    assert list(layout.cut(ours, WINDOW).ids) == reference.ids(query, document, WINDOW)


def test_models_say_what_each_worker_serves(served: Served) -> None:
    answer = served.running.call("GET", "/v1/models").json()
    assert [model["id"] for model in answer["data"]] == list(served.references)
    assert [model["default"] for model in answer["data"]] == [True, False, False]
    for model in answer["data"]:
        (worker,) = model["workers"]
        results = served.running.call(
            "POST",
            "/v1/jobs",
            json={"model": model["id"], "query": "q", "documents": ["d"]},
            headers={"Prefer": "wait=30"},
        ).json()
        made = results["provenance"]
        assert {name: worker.get(name) for name in made if name in worker} == {
            name: value for name, value in made.items() if name in worker
        }
        assert made["worker"] == worker["worker"]
        assert made["revision"].startswith("sha256:")
        assert made["source"].startswith("folder checkpoint-")
        assert worker["golden"]["pairs"] == 4
        assert worker["golden"]["largest_difference"] < 1e-5
    revisions = {model["workers"][0]["revision"] for model in answer["data"]}
    assert len(revisions) == len(SEEDS), "other weights are another revision"
