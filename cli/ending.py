"""How a command of `podium` ends: with its code, or with the sentence of an error of ours."""

import logging
import sys
from collections.abc import Callable

import typer

from jobs.errors import ConfigurationError, PodiumError


def run_to_exit(run: Callable[[], int]) -> None:
    """Runs a command; an error of ours ends it with its sentence and not with a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = run()
    except PodiumError as error:
        print(f"podium: {error.message}", file=sys.stderr)  # noqa: T201
        code = 2 if isinstance(error, ConfigurationError) else 1
    raise typer.Exit(code)
