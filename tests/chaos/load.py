"""Callers: threads that submit jobs over HTTP, and go on submitting whatever happens to the API."""

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from worker.engines.fake import MURDER

POISONS = 2
"""Jobs that kill the engine: each costs three deaths of a worker."""


@dataclass
class Load:
    """`accepted`: ids of the jobs that the API has taken; `called_back`: those of them with a callback."""

    urls: list[str]
    hook: str
    jobs: int
    seconds: float
    seed: int
    poisonous: bool = True
    accepted: list[str] = field(default_factory=list)
    called_back: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def run(self, producers: int = 4) -> None:
        """Returns when every job is accepted. The jobs are spread over `seconds`."""
        threads = [threading.Thread(target=self._produce, args=(n, producers)) for n in range(producers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _produce(self, number: int, producers: int) -> None:
        chance = random.Random(self.seed * 1_000 + number)
        began, mine = time.monotonic(), range(number, self.jobs, producers)
        with httpx.Client(timeout=10, trust_env=False) as client:
            for count, index in enumerate(mine):
                due = began + self.seconds * count / len(mine)
                time.sleep(max(0.0, due - time.monotonic()))
                self._submit(client, index, chance)

    def _submit(self, client: httpx.Client, index: int, chance: random.Random) -> None:
        documents = [f"document {index} {n} " + "word " * chance.randrange(30) for n in range(5)]
        body: dict[str, Any] = {"query": f"query {index}", "documents": documents}
        body["lane"] = chance.choice(["interactive", "bulk"])
        if chance.random() < 0.1:
            body["callback"] = {"url": self.hook}
        if chance.random() < 0.02:
            body["finish_within"] = 1
        if self.poisonous and index % (self.jobs // POISONS) == self.jobs // POISONS // 2:
            body["documents"] = [*documents, MURDER]
        key = {"Idempotency-Key": f"chaos-{self.seed}-{index}"}
        while True:
            url = chance.choice(self.urls)
            try:
                answer = client.post(f"{url}/v1/jobs", json=body, headers=key)
            except httpx.HTTPError:
                time.sleep(0.2)  # the API is dead, or died with the answer: the same key asks again
                continue
            if answer.status_code in (429, 503):
                time.sleep(min(5.0, float(answer.headers["Retry-After"])))
                continue
            break
        if answer.status_code != 202:
            self.refused.append(answer.text)
            return
        job_id = answer.json()["id"]
        self.accepted.append(job_id)
        if "callback" in body:
            self.called_back.add(job_id)
        if chance.random() < 0.03:
            with suppress(httpx.HTTPError):  # whether it was cancelled is for the store to say
                client.post(f"{url}/v1/jobs/{job_id}/cancel")
