"""What a bulk backlog costs who waits: `.venv/bin/python -m bench.lanes`. Takes about two minutes.

Starts a service of its own. An interactive job of 10 documents is sent once a second, first at idle, then
while bulk jobs of 200 documents wait. Prints JSON: p50 and p95 of both in ms, their ratio, and the bulk
documents that were scored for each second meanwhile. Settings are the environment's: compare two runs.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.words import WORDS
from tests.support.podium_up import Service, podium_up


def documents(seed: int, count: int, words: int = 60) -> list[str]:
    """None like another, so that no cache of the engine's helps; Podium's is off."""
    chance = random.Random(seed)
    return [" ".join([str(chance.random()), *chance.choices(WORDS, k=words)]) for _ in range(count)]


def interactive(client: httpx.Client, seed: int) -> float:
    """Milliseconds from the request to the scores."""
    job = {"query": "Who keeps the old lighthouse?", "documents": documents(seed, 10), "cache": False}
    began = time.perf_counter()
    answer = client.post("/v1/jobs", json=job, headers={"Prefer": "wait=60"}).json()
    took = (time.perf_counter() - began) * 1000
    if answer["status"] != "succeeded":
        raise RuntimeError(f"the interactive job is {answer['status']}")
    return took


def once_a_second(client: httpx.Client, count: int, seed: int) -> list[float]:
    found = []
    for number in range(count):
        due = time.monotonic() + 1
        found.append(interactive(client, seed + number))
        time.sleep(max(0.0, due - time.monotonic()))
    return found


def bulk_scored(service: Service, bulk: list[str]) -> int:
    store = service.store()
    return sum(job.scored for job in map(store.get, bulk) if job is not None)


def measure(service: Service, samples: int, jobs: int) -> dict[str, float]:
    with service.client() as client:
        once_a_second(client, 3, 1)
        idle = once_a_second(client, samples, 1_000)
        texts = [documents(10_000 + number, 200) for number in range(jobs)]
        baked = {"query": "How is bread baked?", "lane": "bulk", "cache": False}
        bulk = [service.submit(documents=text, **baked) for text in texts]
        once_a_second(client, 3, 2_000)
        began, before = time.monotonic(), bulk_scored(service, bulk)
        loaded = once_a_second(client, samples, 3_000)
        rate = (bulk_scored(service, bulk) - before) / (time.monotonic() - began)
    p95 = [statistics.quantiles(times, n=20)[-1] for times in (idle, loaded)]
    return {
        "interactive_idle_p50_ms": round(statistics.median(idle)),
        "interactive_idle_p95_ms": round(p95[0]),
        "interactive_loaded_p50_ms": round(statistics.median(loaded)),
        "interactive_loaded_p95_ms": round(p95[1]),
        "interactive_ratio": round(p95[1] / p95[0], 2),
        "bulk_documents_per_s": round(rate, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=60, help="bulk jobs that wait")
    asked = parser.parse_args()
    ours = {name: value for name, value in os.environ.items() if name.startswith("PODIUM_")}
    with (
        tempfile.TemporaryDirectory() as folder,
        podium_up(Path(folder), "--no-page", "--no-flower", **ours) as service,
    ):
        print(json.dumps(measure(service, asked.samples, asked.jobs)))


if __name__ == "__main__":
    main()
