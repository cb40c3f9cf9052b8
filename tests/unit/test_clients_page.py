"""`docs/clients.md` shows lines of calls that are tested, and nothing else."""

import re

from jobs.settings import ROOT


def test_every_line_of_code_on_the_page_is_in_a_tested_call() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    calls = {
        line.strip()
        for name in ("newest", "older")
        for line in (ROOT / "tests" / "clients" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    }
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) >= 10
    assert [line for line in shown if line not in calls] == []
