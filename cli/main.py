"""The commands of `podium`. What takes long to import is imported by the command that needs it."""

import gc
import json
from pathlib import Path
from typing import Annotated

import typer

from cli.bench import commands as bench
from cli.ending import run_to_exit as _exit
from jobs import settings as podium_settings
from jobs.states import JobState

app = typer.Typer(
    help="Podium, an asynchronous reranking service. Start with `podium demo` or `podium up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
worker_app = typer.Typer(no_args_is_help=True, help="Run one worker process, or ask whether it lives.")
app.add_typer(worker_app, name="worker")
app.add_typer(bench.app, name="bench")

Host = Annotated[
    str, typer.Option(help="Address to listen on. Beyond loopback, PODIUM_API_KEYS must be set.")
]
Port = Annotated[int, typer.Option(help="Port of the API and the page.", min=1, max=65535)]
FlowerPort = Annotated[int, typer.Option(help="Port of Flower, always on loopback.", min=1, max=65535)]
Model = Annotated[
    str | None, typer.Option(help="A profile in configs/models/. Default: PODIUM_MODEL or minilm.")
]
DataDir = Annotated[Path, typer.Option(help="Where the embedded Valkey keeps jobs, and logs go.")]
Url = Annotated[str | None, typer.Option(help="Where the API is. Default: PODIUM_PUBLIC_URL.")]
NoPage = Annotated[bool, typer.Option("--no-page", help="Without the page at /ui.")]
NoFlower = Annotated[bool, typer.Option("--no-flower", help="Without Flower.")]


@app.command()
def up(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    flower_port: FlowerPort = 5555,
    model: Model = None,
    data_dir: DataDir = Path(".podium"),
    no_flower: NoFlower = False,
    no_page: NoPage = False,
) -> None:
    """Run everything on this machine: Valkey, API, page, workers, Flower. Ctrl-C stops it in order."""
    from cli import up as up_command

    _exit(
        lambda: up_command.up(
            up_command.Options(host, port, flower_port, model, data_dir, not no_flower, not no_page)
        )
    )


@app.command()
def demo(
    port: Port = 8000,
    flower_port: FlowerPort = 5555,
    model: Model = None,
    data_dir: Annotated[Path | None, typer.Option(help="Default: a temporary folder.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running until Ctrl-C.")] = False,
) -> None:
    """Run everything, rank three sets of documents over HTTP and receive a signed callback.

    Ends with 0 only if the expected document came first in each and the callback's signature was right.
    """
    from cli import demo as demo_command

    _exit(lambda: demo_command.demo(port, flower_port, model, data_dir, keep=keep))


@app.command()
def api(host: Host = "127.0.0.1", port: Port = 8000, no_page: NoPage = False) -> None:
    """Run the API alone, against PODIUM_REDIS_URL."""

    def run() -> int:
        import uvicorn

        from api.app import create_app
        from api.auth import check_exposure

        settings = podium_settings.load()
        check_exposure(host, settings)
        _collect_seldom()
        # Requests that wait are cut short at the end: their jobs go on.
        uvicorn.run(
            create_app(settings, page=not no_page),
            host=host,
            port=port,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
        return 0

    _exit(run)


@worker_app.command()
def score(model: Model = None) -> None:
    """Score jobs: one process with one engine. One for each GPU."""

    def run() -> int:
        from worker import app as worker

        settings = podium_settings.load()
        _collect_seldom()
        return worker.score(settings if model is None else settings.model_copy(update={"model": model}))

    _exit(run)


@worker_app.command()
def callbacks() -> None:
    """Deliver callbacks and sweep. Needs no engine; several are safe."""

    def run() -> int:
        from worker import app as worker

        return worker.callbacks(podium_settings.load())

    _exit(run)


@worker_app.command()
def alive() -> None:
    """End with 0 if a worker of this host takes jobs: the health check of a container with one worker."""
    from cli import alive as alive_command

    _exit(lambda: alive_command.alive(podium_settings.load()))


@app.command()
def flower(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Beyond loopback, PODIUM_FLOWER_AUTH must be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5555,
) -> None:
    """Run Flower: each task is a job, its UUID the job's id. PODIUM_FLOWER_AUTH guards it."""
    from cli import flower as flower_command

    _exit(lambda: flower_command.flower(podium_settings.load(), host, port))


@app.command()
def jobs(
    status: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 50,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List jobs, such as the failed ones: `podium jobs --status failed`."""
    from cli import client

    _exit(lambda: client.jobs(url, status, limit, as_json=as_json))


@app.command()
def retry(job_id: Annotated[str, typer.Argument(help="A failed job.")], url: Url = None) -> None:
    """Run a failed job again, as a new job: one that was poison, or met an error of Podium's own."""
    from cli import client

    _exit(lambda: client.retry(url, job_id))


@app.command("eval")
def evaluate(
    corpus: Annotated[
        Path, typer.Option(help="A folder as BEIR has them: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.")
    ],
    run: Annotated[Path, typer.Option(help="A TREC run: what another search has found for each query.")],
    model: Model = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    save_run: Annotated[Path | None, typer.Option(help="Write the new ranking here, as a TREC run.")] = None,
    split: Annotated[str, typer.Option(help="Which judgements: qrels/SPLIT.tsv.")] = "test",
    top: Annotated[int, typer.Option(help="How many documents of each query are ranked anew.", min=1)] = 50,
    queries: Annotated[
        int | None, typer.Option(help="Only so many queries, the run's first. Default: all.", min=1)
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What counts as relevant; some models ignore it.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Where the API is. Default: PODIUM_PUBLIC_URL; if none answers, one is started."),
    ] = None,
) -> None:
    """Rerank a run through the API and show nDCG, reciprocal rank, precision and recall before and after.

    Killed half-way, the same command goes on where it was.
    """
    from cli.eval import command

    _exit(
        lambda: command.evaluate(
            command.Options(corpus, run, model, report, save_run, split, top, queries, instruction, url)
        )
    )


@app.command()
def doctor(
    model: Model = None,
    url: Url = None,
    here: Annotated[
        bool, typer.Option("--here", help="Load the model in this process instead of asking a service.")
    ] = False,
) -> None:
    """Score a model's golden pairs and compare them with its reference. Ends with 0 if they are right."""
    from cli import doctor as doctor_command

    _exit(lambda: doctor_command.doctor(url, model, here=here))


@app.command()
def config() -> None:
    """Show the settings in force, without secrets."""

    def run() -> int:
        typer.echo(json.dumps(podium_settings.load().shown(), indent=2))
        return 0

    _exit(run)


def _collect_seldom() -> None:
    """Python looks for circles of garbage at each 700 new objects: a job makes thousands, and few circles."""
    gc.set_threshold(10_000)
