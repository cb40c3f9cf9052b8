"""`python -m tests.chaos --jobs 500 --duration 60 --seed 1`: prints a ledger, ends with 0 if it balances."""

import argparse
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from cli.demo import receiver
from cli.stack import Stack
from cli.up import start_valkey
from jobs.connection import connect
from jobs.errors import StoreUnavailable
from jobs.queue import Doorbell, make_app
from jobs.settings import load
from jobs.store import Store
from tests.chaos import broken
from tests.chaos.faults import Faults
from tests.chaos.ledger import Ledger, open_jobs
from tests.chaos.load import Load
from tests.support.podium_up import clean_environ, wait_until_ready
from tests.support.ports import free_port
from tests.support.waiting import until

ENGINES: dict[str, dict[str, str]] = {
    "fake": {"PODIUM_ENGINE__KIND": "fake", "PODIUM_ENGINE__FAKE_STEP": "0.2", "PODIUM_JOBS__LEASE": "3"},
    "vllm": {"PODIUM_ENGINE__SEPARATE_PROCESS": "true", "PODIUM_JOBS__LEASE": "5"},
}
"""Settings of the workers. The real engine has a process of its own, which can be killed."""

WORKERS = {"fake": 3, "vllm": 2}
START_WITHIN = {"fake": 60, "vllm": 400}
END_WITHIN = {"fake": 120, "vllm": 400}


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - its output is what it is for


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--duration", type=float, default=60, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=list(ENGINES), default="fake")
    parser.add_argument("--fsync", choices=["everysec", "always"], default="everysec", help="of Redis")
    parser.add_argument("--without", choices=list(broken.BREAKS), help="take a promise out: it must fail")
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
        **ENGINES[asked.engine],
        "PODIUM_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "PODIUM_JOBS__SWEEP": "0.5",
        "PODIUM_CALLBACKS__TIMEOUT": "2",
        "PODIUM_CALLBACK_ALLOW": "127.0.0.0/8",
        "PODIUM_CALLBACK_SECRET": "whsec_" + "Y2hhb3Mh" * 4,
    }
    settings = load(env)
    if asked.without:
        env |= broken.environ(asked.without, folder / "broken")
    start_valkey(stack, folder, settings.redis_url, env, fsync=asked.fsync)
    stack.start_podium("callbacks", "worker", "callbacks", env=env)
    workers = WORKERS[asked.engine]
    for number in range(workers):
        stack.start_podium(f"score-{number}", "worker", "score", env=env)
    ports = [free_port(), free_port()]
    for port in ports:
        stack.start_podium(f"api-{port}", "api", f"--port={port}", "--no-page", env=env)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    for url in urls:
        wait_until_ready(url, stack.check, within=START_WITHIN[asked.engine])

    redis = connect(settings.redis_url)
    store, doorbell = Store(redis), Doorbell(make_app(settings), redis)
    load_ = Load(urls, hook, asked.jobs, asked.duration, asked.seed, poisonous=asked.engine == "fake")
    lease = settings.jobs.lease.total_seconds()
    kind = (asked.seed, asked.engine, asked.fsync)
    faults = Faults(stack, redis, store, doorbell, lease, *kind, load_.accepted)
    say(f"{asked.jobs} jobs in {asked.duration:.0f} s, {workers} workers ({asked.engine}), seed {asked.seed}")
    callers = threading.Thread(target=load_.run)
    callers.start()
    faults.run(asked.duration)
    say(f"faults: {dict(faults.done)}; waiting for the jobs to end")
    faults.settle()
    callers.join()

    def all_ended() -> bool:
        stack.revive(at_most=10_000, within=1)
        try:
            return not open_jobs(store, load_)
        except StoreUnavailable:
            return False

    with suppress(AssertionError):  # the ledger says which are lost
        until("every job has ended", all_ended, END_WITHIN[asked.engine])
    logs = "".join(path.read_text(errors="replace") for path in folder.glob("score-*.log"))
    ledger = Ledger(
        load_,
        [store.get(job_id) for job_id in load_.accepted],
        faults.recoveries,
        logs.count("stale write refused") + logs.count(" is gone: SUPERSEDED"),
        lease,
    )
    wrong = ledger.faults()
    for fault in wrong:
        say(f"WRONG: {fault}")
    say(ledger.line())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
