"""`podium eval`, from files to files: read, reranked through an API (its own, if none answers), reported."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.client import ApiProblem
from cli.eval import journal as progress
from cli.eval import report as reports
from cli.eval.collection import Folder, Question, read
from cli.eval.journal import Journal
from cli.eval.meter import Meter
from cli.eval.rerank import WAIT, Answer, Asker, Failed, rerank
from cli.up import Options as UpOptions
from cli.up import Running, console, free_port, running, warn
from jobs import settings as podium_settings
from jobs.errors import PodiumError
from jobs.settings import Settings

NAMED = 20
"""Failed queries that are named; of more, their number is said."""


@dataclass(frozen=True)
class Options:
    """`report` and `save_run`: where to write. `top`: documents of each query. `queries`: at most so many."""

    corpus: Path
    run: Path
    model: str | None = None
    report: Path | None = None
    save_run: Path | None = None
    split: str = "test"
    top: int = 50
    queries: int | None = None
    instruction: str | None = None
    url: str | None = None


KEPT = "interrupted; what was scored is kept, and the same command goes on from there"


class JobsFailed(PodiumError):
    """Some queries have no scores."""

    code = "jobs_failed"


class Interrupted(PodiumError):
    """A signal came before the end."""

    code = "interrupted"


@dataclass(frozen=True)
class Service:
    """An API that answers. `tend` is to be called now and then; it raises if the service can't go on."""

    url: str
    settings: Settings
    tend: Callable[[], None] = lambda: None

    def client(self) -> httpx.AsyncClient:
        keys = list(self.settings.keys)
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=WAIT + 40, trust_env=False)


def evaluate(options: Options) -> int:
    """Prints measures before and after, and writes what was asked for. Raises `PodiumError`s alone."""
    reports.check_installed()
    reports.check_writable(options.report, options.save_run)
    settings = podium_settings.load()
    model = options.model or settings.model
    folder = Folder(options.corpus, options.split)
    collection = read(folder, options.run, options.top, options.queries)
    inputs = progress.inputs_of(folder, options.run, model, options.instruction, options.top, options.queries)
    with progress.opened(progress.place(options.report, inputs), inputs) as journal:
        _tell_of(journal, collection.questions)
        todo = [question for question in collection.questions if question.id not in journal.answers]
        if todo:
            with _service(options, model, settings) as service:
                _score(service, model, options.instruction, collection.questions, todo, journal)
        report = reports.make(
            collection,
            journal.answers,
            journal.seconds,
            model=model,
            corpus=options.corpus,
            run=options.run,
            split=options.split,
            top=options.top,
        )
        if options.save_run is not None:
            lines = reports.trec_run(collection, journal.answers, f"podium-{model}")
            reports.write(options.save_run, lines)
        if options.report is not None:
            reports.write(options.report, [reports.as_json(report)])
        journal.remove()
    console.print(reports.table(report))
    console.print(reports.summary(report))
    for warning in report.warnings:
        console.print(f"note: {warning}", style="dim")
    return 0


def _tell_of(journal: Journal, questions: Sequence[Question]) -> None:
    if journal.differs:
        console.print(f"Starting anew: {journal.path} is of another {', another '.join(journal.differs)}.")
    done = sum(question.id in journal.answers for question in questions)
    if done:
        console.print(f"{done} of {len(questions)} queries are done already: going on with the rest.")


def _score(
    service: Service,
    model: str,
    instruction: str | None,
    questions: Sequence[Question],
    todo: Sequence[Question],
    journal: Journal,
) -> None:
    """Puts an answer to each question into the journal. Raises `JobsFailed`, `Interrupted`, `ApiProblem`."""
    failed: list[Failed] = []
    total = sum(len(question.documents) for question in questions)
    left = sum(len(question.documents) for question in todo)
    console.print(f"{len(todo)} queries with {left:,} documents, by {model} at {service.url}")
    before, began = journal.seconds, time.monotonic()

    with Meter(console, total, total - left) as meter:

        def ended(question: Question, end: Answer | Failed) -> None:
            if isinstance(end, Failed):
                failed.append(end)
            else:
                journal.append(end, before + time.monotonic() - began)
            meter.advance(len(question.documents))

        async def ask() -> None:
            async with service.client() as client:
                asker = Asker(client, model, instruction, told=meter.tell)
                await rerank(asker, todo, ended, service.tend)

        try:
            asyncio.run(ask())
        except KeyboardInterrupt:
            raise Interrupted(KEPT) from None
    if failed:
        named = "".join(f"\n  {end.query}: {end.reason}" for end in failed[:NAMED])
        more = f"\n  and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise JobsFailed(
            f"{len(failed)} of {len(questions)} queries have no scores:{named}{more}\n"
            f"The others are kept in {journal.path}: the same command again asks for these alone."
        )


@contextmanager
def _service(options: Options, model: str, settings: Settings) -> Iterator[Service]:
    """The API at --url, or where the settings say; one of our own if nobody answers there."""
    url = (options.url or settings.public_url).rstrip("/")
    if _answers(url):
        yield Service(url, settings)
        return
    if options.url is not None:
        raise ApiProblem(f"no API answers at {url}: start `podium up`, or correct --url")
    console.print(f"No API answers at {url}: starting one for this evaluation.")
    # Its Redis, too, is its own: it must not take jobs of a service that is only about to start.
    ours = ("PODIUM_REDIS_URL", "PODIUM_PUBLIC_URL")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    with tempfile.TemporaryDirectory(prefix="podium-eval-") as data_dir:
        up = UpOptions("127.0.0.1", free_port(), free_port(), model, Path(data_dir), flower=False, page=False)
        with running(up, environ) as run:
            yield Service(run.url, run.settings, lambda: _tend(run))


def _tend(run: Running) -> None:
    """What `podium up` does while it runs. Raises `Interrupted` at a signal, `PartDied` past remedy."""
    if run.hurry.signals:
        raise Interrupted(KEPT)
    for obituary in run.stack.revive(at_most=10, within=600):
        warn(obituary)


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/health/live", timeout=5, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return True
