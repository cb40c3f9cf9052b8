"""`python -m tests.chaos --jobs 500 --duration 60 --seed 1`: prints a ledger, ends with 0 if it balances."""

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from cli.demo import receiver
from cli.stack import Stack
from cli.up import free_port, start_valkey
from jobs.queue import Doorbell, make_app
from jobs.settings import load
from jobs.store import Store, connect
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.support.podium_up import clean_environ, wait_until_ready
from tests.support.waiting import until

LEASE = 3.0
WORKERS = 3


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - its output is what it is for


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--duration", type=float, default=60, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podium-chaos-") as folder, receiver() as (hook, _):
        stack = Stack(Path(folder))
        try:
            return run(stack, Path(folder), hook, asked)
        finally:
            stack.stop()


def run(stack: Stack, folder: Path, hook: str, asked: argparse.Namespace) -> int:
    env = {
        **clean_environ(),
        "PODIUM_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "PODIUM_ENGINE__KIND": "fake",
        "PODIUM_ENGINE__FAKE_STEP": "0.4",
        "PODIUM_JOBS__LEASE": str(LEASE),
        "PODIUM_JOBS__SWEEP": "0.5",
        "PODIUM_CALLBACK_ALLOW": "127.0.0.0/8",
        "PODIUM_CALLBACK_SECRET": "whsec_" + "Y2hhb3Mh" * 4,
    }
    start_valkey(stack, folder, env["PODIUM_REDIS_URL"], env)
    stack.start_podium("callbacks", "worker", "callbacks", env=env)
    for number in range(WORKERS):
        stack.start_podium(f"score-{number}", "worker", "score", env=env)
    ports = [free_port(), free_port()]
    for port in ports:
        stack.start_podium(f"api-{port}", "api", f"--port={port}", "--no-page", env=env)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    for url in urls:
        wait_until_ready(url, stack.check, within=60)

    settings = load(env)
    redis = connect(settings.redis_url)
    store, doorbell = Store(redis), Doorbell(make_app(settings), redis)
    load_ = Load(urls, hook, asked.jobs, asked.duration, asked.seed)
    faults = Faults(stack, redis, store, doorbell, LEASE, asked.seed, load_.accepted)
    say(f"{asked.jobs} jobs in {asked.duration:.0f} s, {WORKERS} workers, seed {asked.seed}")
    callers = threading.Thread(target=load_.run)
    callers.start()
    faults.run(asked.duration)
    say(f"faults: {dict(faults.done)}; waiting for the jobs to end")
    faults.settle()
    callers.join()

    def all_ended() -> bool:
        stack.revive(at_most=10_000, within=1)
        return not open_jobs(store, load_)

    with suppress(AssertionError):  # the ledger says which are lost
        until("every job has ended", all_ended, 180)
    return ledger(store, load_, faults, folder)


def open_jobs(store: Store, load_: Load) -> int:
    """Accepted jobs that have not ended, or whose callback is not settled."""
    jobs = [store.get(job_id) for job_id in load_.accepted]
    return sum(job is None or not job.state.terminal or job.callback_state == "pending" for job in jobs)


def ledger(store: Store, load_: Load, faults: Faults, folder: Path) -> int:
    """Prints what became of every job. The exit code: 0 if it balances."""
    jobs = [store.get(job_id) for job_id in load_.accepted]
    states = Counter(job.state.value for job in jobs if job is not None and job.state.terminal)
    delivered = sum(job is not None and job.callback_state == "delivered" for job in jobs)
    logs = "".join(path.read_text(errors="replace") for path in folder.glob("score-*.log"))
    recoveries = sorted(faults.recoveries)
    p99 = recoveries[max(0, round(len(recoveries) * 0.99) - 1)] if recoveries else 0.0
    book = {
        "submitted": len(load_.accepted),
        **{name: states[name] for name in ("succeeded", "failed", "cancelled", "expired")},
        "lost": len(load_.accepted) - sum(states.values()),
        "duplicated": len(jobs)
        - len(set(load_.accepted))
        + sum(job is not None and job.ends > 1 for job in jobs),
        "stale_writes_refused": logs.count("stale write refused") + logs.count(" is gone: SUPERSEDED"),
        "callbacks_delivered": delivered,
        "recoveries": len(recoveries),
        "recovery_p99_s": round(p99, 1),
    }
    wrong = []
    if len(load_.accepted) != load_.jobs:
        wrong.append(f"{load_.jobs - len(load_.accepted)} requests were refused: {load_.refused[:2]}")
    if book["lost"] or book["duplicated"]:
        wrong.append("jobs were lost or ended more than once")
    if delivered != len(load_.called_back):
        wrong.append(f"{delivered} callbacks for {len(load_.called_back)} jobs with one")
    poisons = [job.error.code for job in jobs if job is not None and job.error and job.state == "failed"]
    if set(poisons) - {"poison"}:
        wrong.append(f"jobs failed for no good reason: {Counter(poisons)}")
    if p99 > LEASE + 10:
        wrong.append(f"recovery took {p99:.1f} s, more than the lease and 10 s")
    for fault in wrong:
        say(f"WRONG: {fault}")
    say(json.dumps(book))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
