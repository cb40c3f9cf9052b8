"""How to drive vLLM: an owned `LLMEngine` loop, in-process or with a core of its own, or `AsyncLLM`.

`python bench/engine_loop.py` runs each arm in a process of its own, interleaved and repeated, on the same
sequences with the same engine settings, and prints medians. Record 0001 has the figures it was decided on.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

ARMS = ("in-process", "separate", "async")
JOBS, PAIRS = 100, 6
"""Jobs, and sequences of each: a query and five documents for a bi-encoder."""


def sequences() -> list[list[list[int]]]:
    """Unique token sequences of 20 to 60 ids, by job."""

    def one(job: int, pair: int) -> list[int]:
        length = 20 + (job + pair * 7) % 40
        return [101, *(1000 + (job * 977 + pair * 131 + n * 17) % 20_000 for n in range(length)), 102]

    return [[one(job, pair) for pair in range(PAIRS)] for job in range(JOBS)]


def arm(name: str) -> dict[str, float]:
    """Seconds to start, and jobs/s with one job at a time and with 32 jobs in flight."""
    from jobs.settings import load
    from worker import profiles

    settings = load({"PODIUM_ENGINE__SEPARATE_PROCESS": str(name != "in-process")})
    profile = profiles.load("minilm", settings.models_dir)
    started = time.monotonic()
    if name == "async":
        return _async(profile.locate(None), settings.engine.step_tokens or 8_192, started)
    from worker.engines.base import Prompt
    from worker.engines.vllm import VllmEngine

    engine = VllmEngine(profile, settings.engine)
    took = time.monotonic() - started
    jobs = sequences()

    def run(at_once: int) -> None:
        waiting, number = list(jobs), 0
        inside: dict[str, int] = {}
        while waiting or inside:
            while waiting and len(set(inside.values())) < at_once:
                for tokens in waiting.pop():
                    inside[str(number)] = len(waiting)
                    engine.add(str(number), Prompt(tokens))
                    number += 1
            for key, _ in engine.step():
                del inside[key]

    found = {"start": took, **_measure(run)}
    engine.close()
    return found


def _async(model: str, step_tokens: int, started: float) -> dict[str, float]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    from vllm import AsyncEngineArgs, PoolingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    async def main() -> dict[str, float]:
        engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=model,
                runner="pooling",
                dtype="float32",
                enforce_eager=True,
                max_num_batched_tokens=step_tokens,
                gpu_memory_utilization=0.1,
                distributed_executor_backend="uni",
            )
        )
        took = time.monotonic() - started
        numbers = iter(range(10**9))

        async def one(tokens: list[int]) -> None:
            prompt = {"prompt_token_ids": tokens}
            async for _ in engine.encode(prompt, PoolingParams(task="embed"), str(next(numbers))):
                pass

        async def run(at_once: int) -> None:
            places = asyncio.Semaphore(at_once)

            async def job(pairs: list[list[int]]) -> None:
                async with places:
                    await asyncio.gather(*map(one, pairs))

            await asyncio.gather(*map(job, sequences()))

        found = {"start": took}
        await run(32)  # warm
        for at_once in (1, 32):
            began = time.monotonic()
            await run(at_once)
            found[f"jobs/s at {at_once}"] = JOBS / (time.monotonic() - began)
        engine.shutdown()
        return found

    return asyncio.run(main())


def _measure(run: Callable[[int], None]) -> dict[str, float]:
    run(32)  # warm
    found = {}
    for at_once in (1, 32):
        began = time.monotonic()
        run(at_once)
        found[f"jobs/s at {at_once}"] = JOBS / (time.monotonic() - began)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--arm", choices=ARMS, help="run one arm here and print its figures")
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    if asked.arm:
        print("FIGURES", json.dumps(arm(asked.arm)), flush=True)
        os._exit(0)  # vLLM's threads may take their time
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for repeat in range(asked.repeats):
        for name in ARMS:
            said = subprocess.run(
                [sys.executable, __file__, "--arm", name],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            lines = [line for line in said.stdout.splitlines() if line.startswith("FIGURES")]
            if not lines:
                sys.exit(f"{name} gave no figures:\n{said.stderr[-2000:]}")
            found[name].append(json.loads(lines[0].removeprefix("FIGURES")))
            print(f"{repeat + 1}/{asked.repeats} {name}: {found[name][-1]}", flush=True)
    for name, figures in found.items():
        medians = {key: round(statistics.median(f[key] for f in figures), 1) for key in figures[0]}
        print(f"median {name}: {medians}")


if __name__ == "__main__":
    main()
