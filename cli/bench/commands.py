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
    repeats: Repeats = 5,
    json: Json = None,
    plots: Plots = None,
    markdown: Markdown = False,
) -> None:
    """Pairs/s at saturation: the service, its raw engine, the service without coalescing, vLLM's server.

    Takes about an hour on two CPU cores with the defaults; one model with one job size about 8 minutes,
    3 of which are starts. fake-gpu alone takes 5 minutes.

    raw engine: the better of vLLM's LLM on all pairs at once and AsyncLLM at its best concurrency.
    service: podium up, through HTTP, from the first job to the last result. service / engine: 1 is all that
    the engine can. coalescing gain: service / the same with one job in the engine at a time. engine's own
    gain: LLM on all at once / on one job at a time, the most that coalescing can bring; share: of that.
    """
    from cli.bench import throughput as bench
    from cli.bench.report import Output

    asked = bench.Options(tuple(model or bench.MODELS), tuple(docs or bench.DOCUMENTS), pairs, repeats)
    run_to_exit(lambda: bench.throughput(asked, Output(json, plots, markdown)))


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
    """What the service adds to one job at idle, and how many jobs/s the API accepts. About 2 minutes.

    overhead: milliseconds of one job through HTTP (Prefer: wait), minus those of the raw engine for the same
    job, taken by its own process, in pairs. accept: POST /v1/jobs without waiting, one API process, workers
    idle (the jobs are for a model that no worker serves): jobs/s, and milliseconds of one request.
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
    """What a bulk backlog costs an interactive job, and what it costs the backlog. About 2.5 minutes.

    A job of 10 documents once a second, at idle and while the bulk jobs wait: p50 and p95, and their ratio.
    Bulk documents/s alone (before and after) and beside them; bulk loss: the share of alone that neither
    bulk nor the interactive jobs had.
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
    """Milliseconds of one query with one document, by the length of the prompt. 1 to 5 minutes.

    The raw engine alone, one query at a time: mean, p50, p95, queries/s, tokens/s, peak memory (of the GPU
    if there is one, else of the process), and the share of the GPU's peak bfloat16 FLOPs, where known.
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
    """What stays flat as jobs and queues grow. About 3 minutes, and 1 GB of memory for 100,000 waiting jobs.

    Time per document: beyond the first of a job, so without a job's fixed cost; compared for jobs of 100 and
    more. large_job_added_mb: what the worker's peak memory rises by for one job of the largest size.
    Bytes of a waiting job, and milliseconds to store and to claim one, by the queue's length; bytes are
    compared from 1,000 jobs on. growth: (largest - smallest) / smallest; 0 is flat.
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
    """The same pairs through Podium, vLLM's own server, and sentence-transformers if installed. 5 minutes.

    pairs/s, each at its best number of jobs in flight (or texts in a batch); podium / it: the median of each
    round's own ratio; the largest difference of any score to Podium's, for a few pairs.
    """
    from cli.bench import peers as bench
    from cli.bench.report import Output

    asked = bench.Options(model, docs, pairs, repeats)
    run_to_exit(lambda: bench.peers(asked, Output(json, plots, markdown)))
