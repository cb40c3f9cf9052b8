"""How to drive vLLM: the ways that were chosen among, each in a process of its own, on the same sequences.

    python -m bench.engine_loop [--model minilm|tiny-qwen3] [--repeats 3]

Prints medians of interleaved repeats as a Markdown table. Record 0001 has the figures it was decided on.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import texts, tiny


@dataclass(frozen=True)
class Arm:
    """An engine: the worker's, but for what is said here."""

    told: str
    separate: bool = False
    asynchronous: bool = False
    dtype: str = "float32"
    executor: str = "uni"
    tokenizes: str | None = None


ARMS = {
    "in-process": Arm("`LLMEngine`, in-process"),
    "separate": Arm("`LLMEngine`, separate core", separate=True),
    "async": Arm("`AsyncLLM` (always a separate core)", separate=True, asynchronous=True),
    "mp": Arm("`LLMEngine`, in-process, executor `mp`", executor="mp"),
    "bfloat16": Arm("`LLMEngine`, in-process, bfloat16", dtype="bfloat16"),
    "job": Arm("`LLMEngine`, in-process, from texts, a job's in one call", tokenizes="job"),
    "text": Arm("`LLMEngine`, in-process, from texts, one by one", tokenizes="text"),
}

JOBS, PAIRS = 200, 5
"""Jobs, and sequences of each."""

AT_ONCE = (1, 32)
"""Jobs in flight."""

Jobs = list[list[list[int]]]
"""Unique token sequences of 20 to 60 ids, by job."""


def sequences(seed: int) -> Jobs:
    def one(job: int, pair: int) -> list[int]:
        length = 20 + (job + pair * 7) % 40
        return [1000 + (seed + job * 977 + pair * 131 + n * 17) % 20_000 for n in range(length)]

    return [[one(job, pair) for pair in range(PAIRS)] for job in range(JOBS)]


def figures(arm: Arm, model: str) -> dict[str, float]:
    """Seconds to start, and pairs/s by jobs in flight."""
    from jobs import settings as podium_settings
    from worker import profiles

    settings = podium_settings.load({**os.environ, "PODIUM_ENGINE__SEPARATE_PROCESS": str(arm.separate)})
    profile = profiles.load(model, settings.models_dir).model_copy(update={"dtype": arm.dtype})
    from worker.engines.vllm import FastTokenizer, engine_arguments

    arguments, folder = engine_arguments(profile, settings.engine)
    arguments["distributed_executor_backend"] = arm.executor
    task = "embed" if profile.kind == "bi-encoder" else "classify"
    tokenizer = FastTokenizer(folder)

    def asked(seed: int) -> Jobs:
        if arm.tokenizes is None:
            return sequences(seed)
        found = [texts.texts_of(profile, one)[:PAIRS] for one in texts.questions(seed, JOBS, PAIRS)]
        return [_tokenized(job, tokenizer, together=arm.tokenizes == "job") for job in found]

    started = time.monotonic()
    return (_asynchronous if arm.asynchronous else _owned)(arguments, task, started, asked)


def _tokenized(job: list[str], tokenizer: Any, *, together: bool) -> list[list[int]]:
    if together:
        return list(tokenizer.encode_batch(job, special=True))
    return [tokenizer.encode_batch([text], special=True)[0] for text in job]


def _owned(
    arguments: dict[str, Any], task: Any, started: float, asked: Callable[[int], Jobs]
) -> dict[str, float]:
    from vllm import EngineArgs, PoolingParams
    from vllm.v1.engine.llm_engine import LLMEngine

    engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
    found = {"start": time.monotonic() - started}
    number = 0

    def run(seed: int, at_once: int) -> None:
        nonlocal number
        waiting = asked(seed)
        inside: dict[str, int] = {}
        while waiting or inside:
            while waiting and len(set(inside.values())) < at_once:
                for ids in waiting.pop():
                    number += 1
                    inside[str(number)] = len(waiting)
                    engine.add_request(str(number), {"prompt_token_ids": ids}, PoolingParams(task=task))
            for output in engine.step():
                if output.finished:
                    del inside[output.request_id]

    run(7, AT_ONCE[-1])  # warm
    for seed, at_once in enumerate(AT_ONCE):
        began = time.monotonic()
        run(1_000_003 * (seed + 1), at_once)
        found[str(at_once)] = JOBS * PAIRS / (time.monotonic() - began)
    return found


def _asynchronous(
    arguments: dict[str, Any], task: Any, started: float, asked: Callable[[int], Jobs]
) -> dict[str, float]:
    from vllm import AsyncEngineArgs, PoolingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    async def main() -> dict[str, float]:
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        found = {"start": time.monotonic() - started}
        numbers = iter(range(10**9))

        async def one(ids: list[int]) -> None:
            params = PoolingParams(task=task)
            async for _ in engine.encode({"prompt_token_ids": ids}, params, str(next(numbers))):
                pass

        async def run(seed: int, at_once: int) -> None:
            places = asyncio.Semaphore(at_once)

            async def job(pairs: list[list[int]]) -> None:
                async with places:
                    await asyncio.gather(*map(one, pairs))

            await asyncio.gather(*map(job, asked(seed)))

        await run(7, AT_ONCE[-1])  # warm
        for seed, at_once in enumerate(AT_ONCE):
            began = time.monotonic()
            await run(1_000_003 * (seed + 1), at_once)
            found[str(at_once)] = JOBS * PAIRS / (time.monotonic() - began)
        engine.shutdown()
        return found

    return asyncio.run(main())


def _in_a_process(name: str, model: str, environ: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.engine_loop", f"--model={model}", f"--arm={name}"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in said.stdout.splitlines() if line.startswith("FIGURES")]
    if not lines:
        sys.exit(f"{name} gave no figures:\n{said.stderr[-2000:]}")
    found: dict[str, float] = json.loads(lines[0].removeprefix("FIGURES"))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--model", default="minilm")
    options.add_argument("--arm", choices=ARMS, help="run one arm here and print its figures")
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    if asked.arm:
        print("FIGURES", json.dumps(figures(ARMS[asked.arm], asked.model)), flush=True)
        os._exit(0)  # vLLM's threads may take their time
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        environ = dict(os.environ)
        if asked.model == tiny.BENCH:
            subprocess.run([sys.executable, "-m", "bench.tiny", folder, "float32"], check=True)
            environ["PODIUM_MODELS_DIR"] = str(Path(folder) / "models")
        for repeat in range(asked.repeats):
            for name in ARMS:
                found[name].append(_in_a_process(name, asked.model, environ))
                print(f"{repeat + 1}/{asked.repeats} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print("| engine | start | " + " | ".join(f"pairs/s, {number} in flight" for number in AT_ONCE) + " |")
    print("|---" * (2 + len(AT_ONCE)) + "|")
    for name, rounds in found.items():
        start, *rates = (statistics.median(one[key] for one in rounds) for key in rounds[0])
        print(f"| {ARMS[name].told} | {start:.0f} s | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
