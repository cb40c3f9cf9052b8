"""What is made of measured figures: medians, percentiles, paired ratios, slopes. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

Round = Mapping[str, float]
"""One round's figure of each arm."""


def median_of(rounds: Sequence[Round], arm: str) -> float | None:
    """None if the arm has not run."""
    found = [one[arm] for one in rounds if arm in one]
    return statistics.median(found) if found else None


def paired_ratio(rounds: Sequence[Round], over: str, under: str) -> float | None:
    """The median of each round's own ratio: what slows a whole round down leaves it alone."""
    found = [one[over] / one[under] for one in rounds if over in one and one.get(under)]
    return statistics.median(found) if found else None


def better(rounds: Sequence[Round], arms: Iterable[str]) -> str | None:
    """The arm with the highest median, of those that have run."""
    medians = {arm: found for arm in arms if (found := median_of(rounds, arm)) is not None}
    return max(medians, key=lambda arm: medians[arm]) if medians else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    place = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[min(place, len(ordered) - 1)]


def divided(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, each): the straight line that fits best, each point weighed by its size: 10 % count alike."""
    weights = [1 / max(y, 1e-12) ** 2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    if not spread:
        return mean_y, 0.0
    each = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / spread
    return mean_y - each * mean_x, each


def growth(values: Sequence[float]) -> float:
    """(largest - smallest) / smallest: 0 is flat."""
    return (max(values) - min(values)) / min(values)


def short(value: float | None, digits: int = 3) -> float | None:
    """As many digits as a measured figure deserves."""
    return None if value is None else float(f"{value:.{digits + 1}g}")
