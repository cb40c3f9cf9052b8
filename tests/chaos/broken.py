"""Podium with one promise taken out, to see that the ledger notices."""

import shutil
from pathlib import Path

from jobs.settings import ROOT

BREAKS = {
    "fencing": [
        ("jobs/lua/finish.lua", "if ARGV[2] ~= '' and found[2] ~= ARGV[2] then return 'SUPERSEDED' end\n"),
        ("jobs/lua/finish.lua", "if not allowed_from(found[1], ARGV[3]) then return 'REFUSED' end\n"),
        ("jobs/lua/renew.lua", "if found[2] ~= ARGV[2] then return 'SUPERSEDED' end\n"),
    ],
    "sweeper": [("worker/app.py", "        sweeper.start()\n        closing.callback(sweeper.close)\n")],
}
"""What can be left out: the files, and the text that is cut from each.

A late write meets three guards, and the generation alone is rarely the last: without it some runs balance.
"""


def environ(without: str, folder: Path) -> dict[str, str]:
    """Makes a copy without `without` in `folder`; what a Python needs to run that copy and not this tree."""
    for package in ("api", "cli", "configs", "jobs", "worker"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in BREAKS[without]:
        path = folder / name
        whole = path.read_text(encoding="utf-8")
        if whole.count(text) != 1:
            raise RuntimeError(f"{name} has changed: tell tests/chaos/broken.py what to cut from it")
        path.write_text(whole.replace(text, ""), encoding="utf-8")
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
