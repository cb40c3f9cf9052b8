"""The commands of `podium bench`. Each imports what it runs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from cli.ending import run_to_exit

app = typer.Typer(
    no_args_is_help=True,
    help="Measure this machine. Each command starts what it measures, and ends it. See docs/performance.md.",
)

Json = Annotated[Path | None, typer.Option("--json", help="Write all figures here, those of each round too.")]
Plots = Annotated[Path | None, typer.Option("--plots", help="Write PNG plots into this folder.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown, to be pasted.")]
Repeats = Annotated[int, typer.Option(help="Interleaved rounds; what is shown are their medians.", min=1)]


@app.command()
def throughput(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A profile; repeat it. Default: tiny-qwen3 (overhead), minilm (compute), fake-gpu."
        ),
    ] = None,
    docs: Annotated[
        list[int] | None, typer.Option(help="Documents of a job; repeat it. Default: 1, 5, 20, 100.", min=1)
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help="Pairs of each arm in each round. Default: 1,000; for fake-gpu 4,000.", min=1),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Also the same parts without a promise: what those cost.")
    ] = False,
    repeats: Repeats = 5,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """Pairs/s at saturation: the service, its raw engine, and vLLM's own server.

    About an hour on two CPU cores with the defaults. One model with one size
    of job: 8 minutes, 2 of which are starts. fake-gpu alone: 5 minutes.

    raw engine: the better of LLM on all pairs at once, and AsyncLLM.
    service: podium up, through HTTP, from the first job to the last result.
    ratio: service / raw engine; 1 is all that the engine can.
    vllm serve, ratio: vLLM's own server, and service / that.
    gain: service / the same with one job in the engine at a time.
    engine's: LLM on all pairs at once / on one job at a time.
    share: gain / engine's.
    bare (--bare): FastAPI, Celery, Valkey and the same engine, where a job
    is not stored, leased or known after its answer; service / bare.

    PODIUM_ENGINE__PREFIX_CACHING=true lets all arms compute a shared
    beginning of prompts once, as a service does by default.
    """
    from cli.bench import throughput as bench
    from cli.bench.report import Output

    asked = bench.Options(
        tuple(model or bench.MODELS), tuple(docs or bench.DOCUMENTS), pairs, repeats, bare=bare
    )
    run_to_exit(lambda: bench.throughput(asked, Output(json, plots, markdown)))


@app.command()
def cost(
    model: Annotated[
        str, typer.Option(help="A profile; fake-gpu here takes a GPU's time and no core.")
    ] = "tiny-qwen3",
    docs: Annotated[int, typer.Option(help="Documents of a job.", min=1)] = 5,
    jobs: Annotated[int, typer.Option(help="Jobs of each arm in each round.", min=10)] = 300,
    bare: Annotated[
        bool, typer.Option("--bare", help="Also the same parts without a promise: what those cost.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Interleaved rounds; medians are shown.", min=1)] = 8,
    json: Json = None,
    markdown: Markdown = False,
) -> None:
    """What a job costs in core time by part: 3 minutes with --bare, else less.

    API, worker, Valkey, callbacks, client: milliseconds of a core for a job,
    as the kernel counts each thread's time. Where the engine computes on
    the same cores, it says more than pairs/s, which drift with the machine.
    engine, waited: the engine's threads ran, and waited for a core.
    bare (--bare): FastAPI, Celery, Valkey and the same engine, where a job
    is not stored, leased or known after its answer.
    """
    from cli.bench import cost as bench
    from cli.bench.report import Output

    asked = bench.Options(model, docs, jobs, repeats, bare=bare)
    run_to_exit(lambda: bench.cost(asked, Output(json, None, markdown)))


@app.command()
def overhead(
    model: Annotated[
        str, typer.Option(help="A profile; the tiny one has the least engine to hide in.")
    ] = "tiny-qwen3",
    docs: Annotated[int, typer.Option(help="Documents of the job.", min=1)] = 5,
    jobs: Annotated[int, typer.Option(help="Pairs of measurements: service and raw engine.", min=2)] = 60,
    accepted: Annotated[int, typer.Option(help="Jobs accepted in each round.", min=10)] = 3_000,
    connections: Annotated[int, typer.Option(help="That submit at once, in a closed loop.", min=1)] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds of accepting; medians are shown.", min=1)] = 3,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """What the service adds to one job, and how fast jobs are accepted: 2 minutes.

    overhead: milliseconds of one job at idle through HTTP, minus those that
    the raw engine's own process takes for the same job, in pairs.
    accept: POST /v1/jobs without waiting, to one API process beside idle
    workers (no worker serves the model): jobs/s, milliseconds of a request.
    """
    from cli.bench import overhead as bench
    from cli.bench.report import Output

    asked = bench.Options(model, docs, jobs, accepted, connections, repeats)
    run_to_exit(lambda: bench.overhead(asked, Output(json, plots, markdown)))


@app.command()
def lanes(
    model: Annotated[str, typer.Option(help="A profile.")] = "minilm",
    samples: Annotated[
        int, typer.Option(help="Interactive jobs, one a second, idle and beside bulk.", min=4)
    ] = 30,
    jobs: Annotated[int, typer.Option(help="Bulk jobs of 200 documents that wait.", min=1)] = 200,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """An interactive job beside a bulk backlog, and the other way round: 2.5 minutes.

    p50, p95: an interactive job of 10 documents, one a second, at idle and
    while bulk jobs of 200 documents wait.
    ratio: loaded p95 / idle p95.
    bulk documents/s: alone (before and after), and beside interactive jobs.
    bulk loss: the share of alone that neither bulk nor interactive had.
    """
    from cli.bench import lanes as bench
    from cli.bench.report import Output

    asked = bench.Options(model, samples, jobs)
    run_to_exit(lambda: bench.lanes(asked, Output(json, plots, markdown)))


@app.command()
def lengths(
    model: Annotated[str, typer.Option(help="A profile, such as qwen3-reranker-4b.")] = "tiny-qwen3",
    tokens: Annotated[
        list[int] | None,
        typer.Option(help="Tokens of the prompt; repeat it. Default: 512, 1,024, 2,048, 8,192.", min=128),
    ] = None,
    queries: Annotated[int, typer.Option(help="Of each length, one after another.", min=2)] = 20,
    dummy: Annotated[
        bool, typer.Option("--dummy", help="Made-up weights: as fast as the real ones, which are not loaded.")
    ] = False,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """One query with one document, by the length of the prompt: 1 to 5 minutes.

    The raw engine alone, one query at a time.
    mean, p50, p95: milliseconds of a query.
    peak memory: of the GPU if there is one, else of the process.
    share of peak: of the GPU's bfloat16 FLOPs, where they are known.
    """
    from cli.bench import lengths as bench
    from cli.bench.report import Output

    asked = bench.Options(model, tuple(tokens or bench.TOKENS), queries, dummy)
    run_to_exit(lambda: bench.lengths(asked, Output(json, plots, markdown)))


@app.command()
def growth(
    model: Annotated[
        str, typer.Option(help="A profile; fake-gpu here takes no time, so that all time is Podium's.")
    ] = "fake-gpu",
    docs: Annotated[
        list[int] | None, typer.Option(help="Documents of a job; repeat it. Default: 1, 10, … 5,000.", min=1)
    ] = None,
    waiting: Annotated[int, typer.Option(help="The longest queue; 0 leaves queues out.", min=0)] = 100_000,
    waiting_docs: Annotated[int, typer.Option(help="Documents of 1 kB of a waiting job.", min=1)] = 20,
    repeats: Annotated[int, typer.Option(help="Rounds of jobs; medians are shown.", min=1)] = 5,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """What stays flat as jobs and queues grow: 3 minutes, and 1 GB of memory.

    ms/document beyond the first: without a job's fixed cost; this is what is
    compared, for jobs of 100 documents and more.
    large_job_added_mb: what the worker's peak memory rises by for the largest.
    bytes/job, storing, claiming: of a waiting job, by the queue's length;
    bytes are compared from 1,000 jobs on.
    growth: (largest - smallest) / smallest; 0 is flat.
    """
    from cli.bench import growth as bench
    from cli.bench.report import Output

    asked = bench.Options(model, tuple(docs or bench.DOCUMENTS), waiting, waiting_docs, repeats)
    run_to_exit(lambda: bench.growth(asked, Output(json, plots, markdown)))


@app.command()
def peers(
    model: Annotated[str, typer.Option(help="A profile.")] = "minilm",
    docs: Annotated[int, typer.Option(help="Documents of a job.", min=1)] = 20,
    pairs: Annotated[int, typer.Option(help="Pairs of each peer in each round.", min=1)] = 1_000,
    repeats: Repeats = 5,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """The same pairs by Podium, vLLM's server, sentence-transformers: 5 minutes.

    pairs/s: each at its best number of jobs in flight, or of a batch.
    podium / it: the median of each round's own ratio.
    largest score difference: to Podium's scores, of a few pairs.
    """
    from cli.bench import peers as bench
    from cli.bench.report import Output

    asked = bench.Options(model, docs, pairs, repeats)
    run_to_exit(lambda: bench.peers(asked, Output(json, plots, markdown)))


@app.command()
def cache(
    model: Annotated[str, typer.Option(help="A profile.")] = "minilm",
    docs: Annotated[
        list[int] | None, typer.Option(help="Documents of a job; repeat it. Default: 20, 100.", min=1)
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of each round.", min=1)] = 2_000,
    repeats: Repeats = 5,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """The same jobs twice: the second time their scores are known. 3 minutes.

    second / first: the median of each round's own ratio.
    largest score difference: between the two runs, of all pairs.
    """
    from cli.bench import cache as bench
    from cli.bench.report import Output

    asked = bench.Options(model, tuple(docs or bench.Options.documents), pairs, repeats=repeats)
    run_to_exit(lambda: bench.cache(asked, Output(json, plots, markdown)))


@app.command()
def waiting(
    polls: Annotated[int, typer.Option(help="Clients on GET /v1/jobs/{id}?wait=60.", min=1)] = 1_000,
    streams: Annotated[int, typer.Option(help="Clients on GET /v1/jobs/{id}/events.", min=0)] = 200,
    repeats: Annotated[int, typer.Option(help="Rounds; medians are shown.", min=1)] = 3,
    json: Json = None,
    markdown: Markdown = False,
) -> None:
    """Many clients that wait, on one API process: 2 minutes.

    ms: from a job's end to the client that has read of it; each waits for a
    job of its own, or all wait for one.
    API core, waiting: the share of a core while nothing happens.
    API core-s, answering: of all clients.
    API MB added: by clients that wait, the most of any round.
    """
    from cli.bench import waiting as bench
    from cli.bench.report import Output

    asked = bench.Options(polls, streams, repeats=repeats)
    run_to_exit(lambda: bench.waiting(asked, Output(json, None, markdown)))
