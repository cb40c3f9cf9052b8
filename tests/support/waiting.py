"""The one place where tests wait for what they can only look at: other processes, and Redis."""

import time
from collections.abc import Callable


def until(what: str, true: Callable[[], object], within: float) -> float:
    """Looks until `true` says so. Returns the seconds; `AssertionError` names `what` if it never does."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began
