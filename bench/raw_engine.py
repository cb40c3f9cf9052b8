"""A raw engine in a process of its own: what vLLM does with the same pairs where no service is around it.

    python -m bench.raw_engine --arm llm|async|engine|sentence-transformers --model PROFILE

Speaks JSON, a line for each question and each answer, on stdin and stdout; all else that is printed goes to
stderr. The first line that it says tells what it is. It ends when stdin does.

- `llm`: vLLM's `LLM`, given texts.
- `async`: vLLM's `AsyncLLM`, given texts by as many jobs at once as it is told.
- `engine`: the engine that a worker has (`PODIUM_ENGINE__KIND=fake` too), stepped directly.

All have the arguments that a worker gives to its engine.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from bench.texts import Question, texts_of
from jobs import settings as podium_settings
from jobs.model import Document, Work
from jobs.settings import Settings
from worker import profiles, prompts
from worker.engines.base import Engine, Output, Tokenizer
from worker.profiles import ModelProfile

Scores = list[list[float]]
"""Of each job, in the order of its documents."""

PASSED_ON = ("VLLM_CPU_", "VLLM_BATCH_INVARIANT")
"""Variables of vLLM that make an engine what it is, by how they begin."""


class Raw(Protocol):
    about: dict[str, Any]

    def score(self, asked: Sequence[Question], at_once: int | None) -> Scores:
        """`at_once`: jobs that are inside at one time; None: all."""
        ...

    def close(self) -> None: ...


class LlmArm:
    """`LLM`, which is offline inference as vLLM's documentation shows it."""

    def __init__(self, profile: ModelProfile, settings: Settings, more: dict[str, Any]) -> None:
        from worker.engines.vllm import engine_arguments

        arguments, _ = engine_arguments(profile, settings.engine)
        arguments |= more
        from vllm import LLM, PoolingParams

        self._profile = profile
        self._llm = LLM(**arguments)
        self._params = PoolingParams()
        if profile.kind == "cross-encoder":
            self._params.use_activation = False
        model = self._llm.llm_engine.model_config
        self.about = {
            "arguments": arguments,
            "dtype": str(model.dtype).removeprefix("torch."),
            "parameters": _parameters(model.hf_config),
            "max_tokens": int(model.max_model_len),
        }

    def score(self, asked: Sequence[Question], at_once: int | None) -> Scores:
        found: Scores = []
        left = iter(asked)
        while some := list(islice(left, at_once or len(asked))):
            found += self._together(some)
        return found

    def _together(self, asked: Sequence[Question]) -> Scores:
        if self._profile.kind == "cross-encoder" and self._profile.template is None:
            return self._pairs(asked)
        task = "embed" if self._profile.kind == "bi-encoder" else "classify"
        texts = [text for question in asked for text in texts_of(self._profile, question)]
        outputs = iter(
            self._llm.encode(texts, pooling_params=self._params, pooling_task=task, use_tqdm=False)
        )
        return [
            scores_of(self._profile, [next(outputs).outputs.data for _ in texts_of(self._profile, question)])
            for question in asked
        ]

    def count(self, asked: Sequence[Question]) -> list[int]:
        """Tokens of each text that the engine reads for these jobs."""
        tokenizer = self._llm.get_tokenizer()
        return [
            len(tokenizer.encode(text)) for question in asked for text in texts_of(self._profile, question)
        ]

    def _pairs(self, asked: Sequence[Question]) -> Scores:
        """A model that reads two texts: `LLM.score` puts them together as its tokenizer does."""
        queries = [query for query, documents in asked for _ in documents]
        documents = [document for _, documents in asked for document in documents]
        outputs = iter(
            self._llm.score(queries, documents, pooling_params=self._params.clone(), use_tqdm=False)
        )
        return [
            [self._profile.relevance(None, [next(outputs).outputs.score]) for _ in documents]
            for _, documents in asked
        ]

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()


class AsyncArm:
    """`AsyncLLM`, which is what vLLM's own server drives: its core is a process of its own."""

    def __init__(self, profile: ModelProfile, settings: Settings, more: dict[str, Any]) -> None:
        from worker.engines.vllm import FastTokenizer, engine_arguments

        arguments, folder = engine_arguments(profile, settings.engine)
        arguments |= more
        from vllm import AsyncEngineArgs, PoolingParams
        from vllm.v1.engine.async_llm import AsyncLLM

        self._profile = profile
        self._pairs = FastTokenizer(folder) if profile.kind == "cross-encoder" else None
        self._loop = asyncio.new_event_loop()
        self._numbers = 0
        self._params = PoolingParams(task="embed" if profile.kind == "bi-encoder" else "classify")
        if profile.kind == "cross-encoder":
            self._params.use_activation = False

        async def start() -> Any:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

        self._engine = self._loop.run_until_complete(start())
        dtype = str(self._engine.model_config.dtype).removeprefix("torch.")
        self.about = {"arguments": arguments, "dtype": dtype}

    def score(self, asked: Sequence[Question], at_once: int | None) -> Scores:
        return self._loop.run_until_complete(self._score(asked, at_once or len(asked)))

    async def _score(self, asked: Sequence[Question], at_once: int) -> Scores:
        found: Scores = [[] for _ in asked]
        waiting = iter(enumerate(asked))

        async def serve() -> None:
            for place, question in waiting:  # shared: each takes the next one
                outputs = await asyncio.gather(*map(self._one, self._prompts(question)))
                found[place] = scores_of(self._profile, outputs)

        await asyncio.gather(*(serve() for _ in range(min(at_once, len(asked)))))
        return found

    def _prompts(self, question: Question) -> list[Any]:
        if self._profile.kind == "bi-encoder" or self._profile.template is not None:
            return list(texts_of(self._profile, question))
        assert self._pairs is not None
        query, documents = question
        return self._pairs.encode_pairs(query, documents)

    async def _one(self, prompt: Any) -> Any:
        self._numbers += 1
        params = self._params
        if not isinstance(prompt, str):
            if prompt.second_from is not None:
                params = params.clone()
                params.extra_kwargs = {"compressed_token_type_ids": prompt.second_from}
            prompt = {"prompt_token_ids": list(prompt.ids)}
        found = [output async for output in self._engine.encode(prompt, params, str(self._numbers))]
        return found[-1].outputs.data

    def close(self) -> None:
        self._engine.shutdown()


class EngineArm:
    """A worker's engine without the worker: prompts built, added, stepped and scored by one thread."""

    def __init__(self, profile: ModelProfile, settings: Settings, more: dict[str, Any]) -> None:
        from worker.app import start_engine

        if more:
            raise ValueError("a worker's engine takes no other arguments than a worker's")
        self._profile = profile
        self._engine: Engine = start_engine(profile, settings)
        self.about = {"arguments": settings.engine.model_dump(mode="json"), "dtype": self._engine.info.dtype}

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    def score(self, asked: Sequence[Question], at_once: int | None) -> Scores:
        found: Scores = []
        left = iter(asked)
        while some := list(islice(left, at_once or len(asked))):
            found += self._together(some)
        return found

    def _together(self, asked: Sequence[Question]) -> Scores:
        works = [
            Work(query=query, documents=tuple(Document(text=text) for text in documents))
            for query, documents in asked
        ]
        built = [
            prompts.build(work, self._profile, self.tokenizer, self._engine.info.max_tokens) for work in works
        ]
        outputs: dict[str, Output] = {}
        count = 0
        for job in built:
            for prompt in job.sequences:
                self._engine.add(str(count), prompt)
                count += 1
        while len(outputs) < count:
            outputs.update(self._engine.step())
        numbers = iter(range(count))
        found = []
        for job in built:
            own = [outputs[str(next(numbers))] for _ in job.sequences]
            query = None if job.query is None else own.pop(0)
            found.append([self._profile.relevance(query, output) for output in own])
        return found

    def close(self) -> None:
        self._engine.close()


class SentenceTransformersArm:
    """sentence-transformers, as its documentation shows it: another way to run the same weights."""

    def __init__(self, profile: ModelProfile, settings: Settings, more: dict[str, Any]) -> None:
        import sentence_transformers

        if profile.template is not None:
            raise ValueError(
                f"{profile.name} needs a prompt template, which sentence-transformers does not fill"
            )
        folder = profile.locate(settings.engine.model_path)
        dtype = {} if profile.dtype == "auto" else {"model_kwargs": {"dtype": profile.dtype}}
        self._profile = profile
        self._model: Any = (
            sentence_transformers.SentenceTransformer(folder, **dtype, **more)
            if profile.kind == "bi-encoder"
            else sentence_transformers.CrossEncoder(folder, **dtype, **more)
        )
        self.about = {"arguments": {"model": folder, **dtype, **more}, "dtype": profile.dtype}

    def score(self, asked: Sequence[Question], at_once: int | None) -> Scores:
        """`at_once`: texts, or pairs, of one batch; sentence-transformers sorts them by length itself."""
        batch = at_once or 32
        if self._profile.kind == "cross-encoder":
            pairs = [(query, document) for query, documents in asked for document in documents]
            scores = iter(self._model.predict(pairs, batch_size=batch, show_progress_bar=False).tolist())
            return [[float(next(scores)) for _ in documents] for _, documents in asked]
        texts = [text for question in asked for text in texts_of(self._profile, question)]
        found = iter(
            self._model.encode(texts, batch_size=batch, convert_to_tensor=True, show_progress_bar=False)
        )
        return [
            scores_of(self._profile, [next(found) for _ in texts_of(self._profile, question)])
            for question in asked
        ]

    def close(self) -> None:
        pass


def scores_of(profile: ModelProfile, outputs: Sequence[Any]) -> list[float]:
    """A job's scores from vLLM's tensors. Cosines all at once: in plain Python they would slow the arm."""
    if profile.kind == "cross-encoder":
        return [profile.relevance(None, output.reshape(-1).tolist()) for output in outputs]
    import torch

    query, *documents = outputs
    if not documents:
        return []
    found: list[float] = torch.nn.functional.cosine_similarity(
        query.float().unsqueeze(0), torch.stack(documents).float()
    ).tolist()
    return found


ARMS: dict[str, Callable[[ModelProfile, Settings, dict[str, Any]], Raw]] = {
    "llm": LlmArm,
    "async": AsyncArm,
    "engine": EngineArm,
    "sentence-transformers": SentenceTransformersArm,
}


def _parameters(config: Any) -> int:
    """How many numbers a model of this configuration has, without what only makes a score of its output.

    By a model without memory: the engine's own may be in another process.
    """
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def versions() -> dict[str, str]:
    """Of what computes, if it was loaded."""
    names = ("vllm", "torch", "transformers", "sentence_transformers")
    return {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}


def memory() -> dict[str, float]:
    """Peak MB of this process and of the largest one that it has ended; of the GPU where there is one."""
    found = {"peak_host_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found["used_gpu_mb"] = (total - free) / 2**20
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def device() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"device": "cpu", "threads": torch.get_num_threads() if torch is not None else None}
    about = torch.cuda.get_device_properties(0)
    return {"device": "cuda", "gpu": about.name, "gpu_memory_gib": round(about.total_memory / 2**30, 1)}


def answer(raw: Raw, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["do"] == "memory":
        return memory()
    if asked["do"] == "count":
        assert isinstance(raw, LlmArm)
        return {"tokens": raw.count(asked["jobs"])}
    began = time.perf_counter()
    scores = raw.score(asked["jobs"], asked.get("at_once"))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "scores": scores if asked.get("scores") else None}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--arm", choices=ARMS, required=True)
    options.add_argument("--model", required=True, help="a profile")
    options.add_argument("--more", type=json.loads, default={}, help="further arguments of vLLM's, as JSON")
    asked = options.parse_args()
    say = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    settings = podium_settings.load()
    profile = profiles.load(asked.model, Path(settings.models_dir))
    began = time.monotonic()
    raw = ARMS[asked.arm](profile, settings, asked.more)
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    hello = {
        **raw.about,
        **device(),
        "arm": asked.arm,
        "start_s": round(time.monotonic() - began, 1),
        "versions": versions(),
        "environment": environment,
    }
    print(json.dumps(hello), file=say)
    for line in sys.stdin:
        print(json.dumps(answer(raw, json.loads(line))), file=say)
    raw.close()
    os._exit(0)  # vLLM's threads may take their time


if __name__ == "__main__":
    main()
