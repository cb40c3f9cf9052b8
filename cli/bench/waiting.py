"""`podium bench waiting`: many clients that wait for their jobs, on one API process.

The worker is stopped until all of them wait. What is measured for each is the time from its job's end, by
Redis' clock, to the moment at which the client has read of it: both are clocks of this machine.
"""

import asyncio
import gc
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench import texts
from cli.bench import figures, machine, report, wire
from cli.bench.arms import Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, room, workshop
from cli.bench.wire import WrongAnswer

NO_ENGINE = {"PODIUM_ENGINE__FAKE_STEP": "0", "PODIUM_ENGINE__FAKE_TOKEN": "0"}

MOST = 1 << 20
"""Bytes of one client's answers."""

SETTLES = 3.0
AT_REST = 5.0
"""Seconds: until all clients wait, and for which they are then looked at."""

EACH, ONE = "one job each", "all for one job"

COLUMNS = (
    Column("clients", "clients wait"),
    Column("polls", "long polls"),
    Column("streams", "streams"),
    Column("p50_ms", "p50 ms", 1),
    Column("p95_ms", "p95 ms", 1),
    Column("max_ms", "max ms", 1),
    Column("api_cpu_waiting", "API core, waiting", 2),
    Column("api_cpu_s", "API core-s, answering", 2),
    Column("api_added_mb", "API MB added", 0),
)


@dataclass(frozen=True)
class Options:
    polls: int = 1_000
    streams: int = 200
    documents: int = 5
    repeats: int = 3
    seed: int = 1


@dataclass
class Waiter:
    """A client: what it asks for, and when it has heard of the end."""

    sent: bytes
    stream: bool
    heard: float = 0.0
    said: bytes = b""

    async def wait(self, url: str, connected: asyncio.Semaphore) -> None:
        where = urlsplit(url)
        async with connected:
            reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=MOST)
            writer.write(self.sent)
        try:
            if self.stream:
                await reader.readuntil(b"event: succeeded")
            else:
                await reader.readuntil(b'"status":')
            self.heard = time.time()
            self.said = await reader.readuntil(b"\n\n" if self.stream else b'"urls":')
        finally:
            writer.close()

    @property
    def late(self) -> float:
        """Milliseconds from the end of its job."""
        found = self.said.partition(b'"ended_at":"')[2].partition(b'"')[0].decode()
        if not found:
            raise WrongAnswer(f"a client did not hear of the end: {self.said[:200]!r}")
        return (self.heard - datetime.fromisoformat(found).timestamp()) * 1_000


def waiting(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for."""
    about = report.start(output)
    scenarios = (EACH, ONE)
    with (
        workshop() as folder,
        Steps(console, len(scenarios) * options.repeats) as steps,
        room(folder, steps.now) as here,
    ):
        service = here.service(FAKE, **NO_ENGINE)
        others = machine.Others()
        rounds = [
            _round(service, scenario, number, options, steps)
            for number in range(options.repeats)
            for scenario in scenarios
        ]
        share = others.share()
    rows = [_row(scenario, [one for one in rounds if one["clients"] == scenario]) for scenario in scenarios]
    report.show(output, rows, COLUMNS)
    console.print(
        "ms: from a job's end to the client that has read of it. Medians of the rounds.", style="dim"
    )
    report.tell_of_others([share])
    made = report.made("waiting", asdict(options), about, rows=rows, others_cpu_share=share, rounds=rounds)
    report.write(output, made)
    return 0


def _round(service: Service, scenario: str, number: int, options: Options, steps: Steps) -> dict[str, Any]:
    steps.now(f"{scenario}, round {number + 1} of {options.repeats}")
    api, worker = _api(service), service.worker_pid()
    before = api.memory_info().rss
    os.kill(worker, signal.SIGSTOP)
    gc.disable()  # the clients' own pauses are not the API's
    try:
        found = asyncio.run(_answers(service, scenario, number, options, api, worker))
    finally:
        os.kill(worker, signal.SIGCONT)
        gc.enable()
    steps.done()
    time.sleep(1)
    return {"clients": scenario, "api_added_mb": (found.pop("rss") - before) / 1e6, **found}


async def _answers(
    service: Service, scenario: str, number: int, options: Options, api: psutil.Process, worker: int
) -> dict[str, Any]:
    many = options.polls + options.streams
    jobs = many if scenario == EACH else 1
    asked = texts.questions(options.seed + number + 100 * jobs, jobs, options.documents)
    _, accepted = await wire.ask_all(service.url, [service.job(one, wait=False) for one in asked], 8)
    ids = [json.loads(answer.body)["id"] for answer in accepted] * (many // jobs)
    waiters = [
        Waiter(wire.request("GET", f"/v1/jobs/{job}{'/events' if stream else '?wait=60'}"), stream)
        for job, stream in zip(ids, [False] * options.polls + [True] * options.streams, strict=True)
    ]
    connected = asyncio.Semaphore(50)
    tasks = [asyncio.create_task(waiter.wait(service.url, connected)) for waiter in waiters]
    await asyncio.sleep(SETTLES)
    used = _cpu(api)
    await asyncio.sleep(AT_REST)
    at_rest, rss = (_cpu(api) - used) / AT_REST, api.memory_info().rss
    used = _cpu(api)
    os.kill(worker, signal.SIGCONT)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    late = [waiter.late for waiter in waiters]
    return {
        "polls": options.polls,
        "streams": options.streams,
        "p50_ms": figures.percentile(late, 0.5),
        "p95_ms": figures.percentile(late, 0.95),
        "max_ms": max(late),
        "api_cpu_waiting": at_rest,
        "api_cpu_s": _cpu(api) - used,
        "rss": rss,
    }


def _api(service: Service) -> psutil.Process:
    """The process that serves HTTP."""
    (found,) = [pid for pid, part in service.processes().items() if part == "api"]
    return psutil.Process(found)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _row(scenario: str, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figure = [column.key for column in COLUMNS[3:]]
    medians = {key: figures.short(figures.median_of(rounds, key)) for key in figure}
    # What the first round has taken, the next ones find there.
    most = {"api_added_mb": figures.short(max(one["api_added_mb"] for one in rounds))}
    return {
        "clients": scenario,
        "polls": rounds[0]["polls"],
        "streams": rounds[0]["streams"],
        **medians,
        **most,
    }
