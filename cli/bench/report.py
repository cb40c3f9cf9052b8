"""What a bench leaves: a table on the screen, the same as Markdown, and JSON with every round."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.bench import machine
from cli.eval import report as files

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


@dataclass(frozen=True)
class Output:
    """Where results go beside the screen. `markdown`: print the table as Markdown, to be pasted."""

    json: Path | None = None
    plots: Path | None = None
    markdown: bool = False

    def check(self) -> None:
        """Before minutes of work, whether it could be written. Raises `ConfigurationError`."""
        files.check_writable(self.json)
        if self.plots is not None:
            from cli.bench import plots

            plots.check_installed()
            self.plots.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, what is shown above it, and how many digits."""

    key: str
    title: str
    digits: int | None = None
    """Behind the point; None: as it is."""


def describe(about: Mapping[str, Any]) -> None:
    """The machine, on the screen."""
    gpus = f"; {'; '.join(about['gpus'])}" if about["gpus"] else "; no GPU"
    console.print(f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB{gpus}", style="dim")
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    console.print(f"Python {about['python']}, {versions}; load {about['load_before'][0]}", style="dim")


BUSY = 0.1
"""Share of the cores' time in other hands from which it is said on the screen."""


def tell_of_others(shares: Sequence[float | None]) -> None:
    """Says it if the machine was not the bench's own."""
    most = max((share for share in shares if share is not None), default=0.0)
    if most >= BUSY:
        console.print(f"note: other work took up to {most:.0%} of the cores meanwhile: repeat it alone")


def made(command: str, options: Mapping[str, Any], about: Mapping[str, Any], **found: Any) -> dict[str, Any]:
    """The report of one command, as JSON has it."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command, "at": when, "machine": dict(about), "options": dict(options), **found}


def write(output: Output, report: Mapping[str, Any]) -> None:
    if output.json is not None:
        files.write(output.json, [json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n"])
        console.print(f"Written: {output.json}")


def show(output: Output, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    if output.markdown:
        console.print(markdown(rows, columns))
        return
    table = Table(box=None, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column.title, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column.key), column.digits) for column in columns))
    console.print(table, soft_wrap=False)


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    lines += [
        "| " + " | ".join(_cell(row.get(column.key), column.digits) for column in columns) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def start(output: Output) -> dict[str, Any]:
    """Checks that results can be written, and describes the machine before it is put to work."""
    output.check()
    about = machine.describe()
    describe(about)
    return about


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or digits is None or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.{digits}f}"
