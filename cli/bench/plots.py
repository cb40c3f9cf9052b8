"""PNG plots of a report. The only module that imports matplotlib, which is the extra `bench`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.errors import ConfigurationError

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points by the name of their line."""


def check_installed() -> None:
    """Raises `ConfigurationError` if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "plots need matplotlib: `make setup` installs it, or `pip install 'podium[bench]'`"
        ) from error


def lines(
    path: Path,
    series: Series,
    *,
    title: str,
    x: str,
    y: str,
    log: str = "x",
    level: float | None = None,
) -> Path:
    """Lines with a mark at each point. `log`: which axes are logarithmic. `level`: a line to compare with."""
    figure, axes = _canvas(title, x, y)
    for name, points in series.items():
        if points:
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if level is not None:
        axes.axhline(level, color="gray", linestyle="--", linewidth=1)
    return _save(figure, axes, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], *, title: str, x: str, y: str) -> Path:
    """A group of bars for each name, with a bar for each of its figures."""
    figure, axes = _canvas(title, x, y)
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    width = 0.8 / max(1, len(kinds))
    for place, kind in enumerate(kinds):
        at = [number + place * width for number in range(len(groups))]
        axes.bar(at, [group.get(kind, 0.0) for group in groups.values()], width, label=kind)
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(groups))], list(groups))
    return _save(figure, axes, path)


def histogram(path: Path, values: Mapping[str, Sequence[float]], *, title: str, x: str) -> Path:
    """How each name's values are spread, as the share at or below each value."""
    figure, axes = _canvas(title, x, "share")
    for name, found in values.items():
        ordered = sorted(found)
        axes.step(ordered, [(n + 1) / len(ordered) for n in range(len(ordered))], where="post", label=name)
    axes.set_ylim(0, 1)
    return _save(figure, axes, path)


def _canvas(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no window, no state

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> Path:
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=120)
    return path
