"""`podium bench cost`: milliseconds of a core that a job takes, by the part that takes them.

Where an engine computes on the cores that all else needs too, pairs/s say little: they drift with the machine
by 10 % within seconds. Core time drifts less: it is counted by the kernel, for each thread
(`/proc/…/schedstat`: nanoseconds for which it ran, and for which it waited for a core).
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench import texts
from cli.bench import figures, machine, report
from cli.bench.arms import Service
from cli.bench.meter import Steps
from cli.bench.report import Column, Output, console
from cli.bench.room import FAKE, TINY, check_engine, room, workshop
from cli.bench.throughput import IN_FLIGHT
from jobs.errors import ConfigurationError

ENGINE = 0.25
"""Of a core, for all the time that was measured: a worker's thread that ran for more than this is the
engine's. At saturation those run nearly always, and the next one a tenth of that.
"""

PARTS = ("api", "worker", "valkey", "callbacks", "client")
"""What a job is charged to, beside its engine: processes, as `arms.part_of` names them, and this one."""

COLUMNS = (
    Column("arm", "ms/job"),
    Column("api_ms", "API", 2),
    Column("worker_ms", "worker", 2),
    Column("valkey_ms", "Valkey", 2),
    Column("callbacks_ms", "callbacks", 2),
    Column("client_ms", "client", 2),
    Column("all_ms", "all", 2),
    Column("engine_ms", "engine", 1),
    Column("engine_waited_ms", "engine waited", 1),
    Column("pairs_per_s", "pairs/s", 0),
)

EXPLAINED = (
    "Milliseconds of a core for a job, medians of the rounds. all: without the engine. engine: the worker's "
    "threads that were busy for more than a quarter of the time; waited: for a core. client: this process."
)


@dataclass(frozen=True)
class Options:
    model: str = TINY
    documents: int = 5
    jobs: int = 300
    repeats: int = 8
    bare: bool = False
    seed: int = 1

    @property
    def at_once(self) -> int:
        """Jobs in flight: those of the fullest try of `podium bench throughput`."""
        return max(2, IN_FLIGHT[-1] // self.documents)


class Ran(NamedTuple):
    """Nanoseconds for which a thread ran, and for which it waited for a core."""

    ran: int
    waited: int


Threads = dict[tuple[str, int], Ran]
"""By part and thread."""


def cost(options: Options, output: Output) -> int:
    """Prints the table and writes what was asked for. Raises `ConfigurationError` off Linux."""
    if not Path("/proc/self/schedstat").exists():
        raise ConfigurationError("this needs Linux, whose kernel counts each thread's time")
    about = report.start(output)
    if options.model != FAKE:
        check_engine()
    with (
        workshop() as folder,
        Steps(console, (options.repeats + 1) * (1 + options.bare)) as steps,
        room(folder, steps.now) as here,
    ):
        arms = {"service": here.service(options.model)}
        if options.bare:
            arms["bare"] = here.bare(options.model)
        others = machine.Others()
        rounds: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
        for number in range(options.repeats + 1):
            for arm in list(arms)[:: 1 if number % 2 else -1]:  # each is the first one every second time
                steps.now(f"{arm}, round {number} of {options.repeats}" if number else f"warming {arm}")
                here.only(arms[arm].part)
                found = measure(arms[arm], options, number)
                rounds[arm] += [found] if number else []
                steps.done()
        share = others.share()
        engine = here.settings(options.model).engine.model_dump(mode="json")
    rows = [row(arm, found) for arm, found in rounds.items()]
    report.show(output, rows, COLUMNS)
    console.print(EXPLAINED, style="dim")
    report.tell_of_others([share])
    made = report.made("cost", asdict(options), about, engine=engine, rows=rows, others_cpu_share=share)
    report.write(output, made)
    return 0


def measure(arm: Service, options: Options, number: int) -> dict[str, float]:
    """One round: what each part took for a job, in ms."""
    asked = texts.questions(options.seed * 1_009 + number, options.jobs, options.documents)
    processes = {os.getpid(): "client", **arm.processes()}
    before = now(processes)
    seconds = arm.score(asked, options.at_once)
    after = now(processes)
    found = {part: ran / 1e6 / options.jobs for part, ran in split(before, after, seconds).items()}
    return {**found, "pairs_per_s": texts.pairs(asked) / seconds}


def now(processes: Mapping[int, str]) -> Threads:
    """What the kernel has counted so far. Threads and processes that have ended are left out."""
    found = {}
    for pid, part in processes.items():
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                ran, waited, _ = (task / "schedstat").read_text(encoding="ascii").split()
                found[part, int(task.name)] = Ran(int(ran), int(waited))
    return found


def split(before: Threads, after: Threads, seconds: float) -> dict[str, float]:
    """Nanoseconds of each part, of the engine, for which that waited, and of all parts but the engine."""
    found = dict.fromkeys((*PARTS, "engine", "engine_waited"), 0.0)
    for (part, thread), (ran, waited) in after.items():
        began = before.get((part, thread), Ran(0, 0))
        took = ran - began.ran
        if part == "engine" or (part == "worker" and took > ENGINE * seconds * 1e9):
            found["engine"] += took
            found["engine_waited"] += waited - began.waited
        else:
            found[part] += took
    return {**found, "all": sum(found[part] for part in PARTS)}


def row(arm: str, rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    keys = (*PARTS, "all", "engine", "engine_waited")
    medians = {f"{key}_ms": figures.short(figures.median_of(rounds, key)) for key in keys}
    return {
        "arm": arm,
        **medians,
        "pairs_per_s": figures.short(figures.median_of(rounds, "pairs_per_s")),
        "rounds": [{key: figures.short(value, 4) for key, value in one.items()} for one in rounds],
    }
