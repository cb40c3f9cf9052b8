"""What every client is asked, and how it says what it got. No part of Podium is imported here."""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

QUERY = "How many days of annual leave do I get in the first year?"
DOCUMENTS = [
    "The canteen is open from 11:30 to 14:00.",
    "New employees have 20 days of annual leave in their first year.",
    "Annual leave is requested in the HR portal.",
]

Case = Callable[[str, str], dict[str, Any]]

CASES: dict[str, Case] = {}


def case(ask: Case) -> Case:
    """A client's call. Given are Podium's URL and a key; it returns `results` (a list of [index, score]), and
    the `usage` where the client has it.
    """
    CASES[ask.__name__] = ask
    return ask


def main() -> None:
    """Arguments: a key, then URLs. Prints for each URL what each client has found, or how it failed."""
    key, *urls = sys.argv[1:]
    found: dict[str, dict[str, Any]] = {}
    for url in urls:
        found[url] = {}
        for name, ask in CASES.items():
            try:
                found[url][name] = ask(url, key)
            except Exception:
                found[url][name] = {"error": traceback.format_exc()[-2000:]}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
