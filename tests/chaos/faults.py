"""What goes wrong: parts killed with -9, paused beyond their lease, restarted; messages duplicated."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from redis import Redis
from redis.exceptions import RedisError

from cli.stack import Part, Stack
from jobs import keys
from jobs.errors import StoreUnavailable
from jobs.model import Job, Lane
from jobs.queue import Doorbell
from jobs.states import JobState
from jobs.store import Store
from tests.support.keyspace import until_written
from tests.support.waiting import until
from worker.app import FAKE_ENGINE_DIES

SLOWER = {"fake": 1, "vllm": 12}


@dataclass
class Faults:
    stack: Stack
    redis: Redis
    store: Store
    doorbell: Doorbell
    lease: float
    seed: int
    engine: str
    fsync: str
    accepted: list[str]
    done: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    _watchers: list[threading.Thread] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """A fault each second or so, fewer with the real engine: it starts slowly. What died is restarted."""
        chance = random.Random(self.seed)
        faults: list[tuple[int, Callable[[random.Random], None]]] = [
            (4, self.kill_a_worker),
            (4, self.pause_a_worker),
            (2, self.kill_an_engine),
            (2, self.kill_an_api),
            (1, self.kill_the_callback_worker),
            (1, self.restart_redis),
            (4, self.duplicate_messages),
        ]
        weights, kinds = zip(*faults, strict=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            (fault,) = chance.choices(kinds, weights)
            try:
                fault(chance)
                self.done[fault.__name__] += 1
            except (RedisError, StoreUnavailable, psutil.NoSuchProcess, IndexError):
                pass  # Redis is still away, or what was to be hurt is gone already
            self._revive_for(chance.uniform(0.5, 1.5) * SLOWER[self.engine])

    def settle(self) -> None:
        self._revive_for(1.0)
        for watcher in self._watchers:
            watcher.join()

    def kill_a_worker(self, chance: random.Random) -> None:
        worker = chance.choice(self._workers())
        name = f"score-{worker.process.pid}@"
        worker.process.kill()
        worker.process.wait()
        killed = time.monotonic()
        for job_id in self.redis.zrange(keys.RUNNING, 0, -1):
            holder, generation = self.redis.hmget(keys.job(str(job_id)), "worker", "generation")
            if holder and generation and str(holder).startswith(name):
                watcher = threading.Thread(target=self._watch, args=(job_id, int(generation), killed))
                watcher.start()
                self._watchers.append(watcher)

    def pause_a_worker(self, chance: random.Random) -> None:
        """The classic zombie: it wakes up after its lease and thinks that it still has its jobs."""
        process = psutil.Process(chance.choice(self._workers()).process.pid)
        process.suspend()
        wake = threading.Timer(self.lease * chance.uniform(1.5, 2.5), _resume, [process])
        wake.start()
        self._watchers.append(wake)

    def kill_an_engine(self, chance: random.Random) -> None:
        """The engine alone: its worker sees it, hands back what it has and ends."""
        worker = psutil.Process(chance.choice(self._workers()).process.pid)
        if self.engine == "fake":
            worker.send_signal(FAKE_ENGINE_DIES)
        for child in worker.children(recursive=True):
            if "EngineCore" in f"{child.name()} {' '.join(child.cmdline())}":
                child.kill()

    def kill_an_api(self, chance: random.Random) -> None:
        self._kill(chance.choice([part for part in self.stack.parts if part.name.startswith("api")]))

    def kill_the_callback_worker(self, _: random.Random) -> None:
        self._kill(next(part for part in self.stack.parts if part.name == "callbacks"))

    def restart_redis(self, _: random.Random) -> None:
        """At any moment with `always`; else not while a forced write is under way: `configs/valkey.conf`."""
        if self.fsync != "always":
            until_written(self.redis)
        self._kill(next(part for part in self.stack.parts if part.name == "valkey"))

    def duplicate_messages(self, chance: random.Random) -> None:
        for job_id in chance.sample(self.accepted, min(20, len(self.accepted))):
            self.doorbell.announce(job_id, "minilm", chance.choice(list(Lane)))

    def _workers(self) -> list[Part]:
        return [part for part in self.stack.parts if part.name.startswith("score") and part.alive]

    def _kill(self, part: Part) -> None:
        part.process.kill()
        part.process.wait()

    def _revive_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds

        def revived() -> bool:
            self.stack.revive(at_most=10_000, within=1)
            return time.monotonic() >= end

        until("time is up", revived, seconds + 5)

    def _watch(self, job_id: str, generation: int, killed: float) -> None:
        """Notes how long a job of a killed worker waits until another has it, or until it has ended."""
        found: list[Job] = []

        def moved_on() -> bool:
            with contextlib.suppress(StoreUnavailable):
                job = self.store.get(job_id)
                if job is not None and (job.state.terminal or job.generation > generation):
                    found.append(job)
            return bool(found)

        with contextlib.suppress(AssertionError):  # it never did: its long time is noted all the same
            until("another worker has it", moved_on, 120)
        if not found or found[0].state is not JobState.EXPIRED:
            self.recoveries.append(time.monotonic() - killed)


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()
