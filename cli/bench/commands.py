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
