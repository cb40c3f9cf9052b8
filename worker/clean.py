from collections.abc import Collection

from jobs.model import CleanStep


def clean(text: str, steps: Collection[CleanStep]) -> tuple[str, tuple[CleanStep, ...]]:
    return text, ()
