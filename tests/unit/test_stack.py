"""`podium up` starts again what dies, more and more slowly, and gives up with a sentence."""

from pathlib import Path

import pytest

from cli import stack
from cli.stack import PartDied, Stack
from tests.support.waiting import until

DIES = ["sh", "-c", "echo 'no such model'; exit 3"]


def test_a_part_that_dies_is_started_again_after_pauses_that_grow_until_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "PAUSES", (0, 0.1, 0.3))
    running, told, last = Stack(tmp_path), [], []
    part = running.start("score", DIES, {})

    def gives_up() -> bool:
        try:
            told.extend(running.revive(at_most=4, within=60))
        except PartDied as error:
            last.append(error.message)
        return bool(last)

    until("it gives up", gives_up, 20)
    assert [line.splitlines()[-1].strip() for line in told] == [
        "It is started again.",
        "It is started again in 0.1 s.",
        "It is started again in 0.3 s.",
        "It is started again in 0.3 s.",
    ]
    pauses = [later - earlier for earlier, later in zip(part.deaths, part.deaths[1:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, (0, 0.1, 0.3, 0.3), strict=True))
    assert "score ended with code 3" in last[0]
    assert "no such model" in last[0]
    assert last[0].endswith("score died 5 times: giving up")
    assert not part.alive


def test_deaths_long_ago_do_not_count(tmp_path: Path) -> None:
    running = Stack(tmp_path)
    part = running.start("score", DIES, {})
    until("dead", lambda: not part.alive, 10)
    part.deaths = [-100.0] * 10
    (told,) = running.revive(at_most=1, within=50)
    assert told.endswith("It is started again.")
    assert len(part.deaths) == 1
    running.stop()
