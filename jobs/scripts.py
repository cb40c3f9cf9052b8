"""Loads `lua/*.lua` and calls them. The only place that knows that transitions are scripts."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from jobs.errors import ConfigurationError

FOLDER = Path(__file__).with_name("lua")


class Scripts:
    """Every script by its file's name. `offset` shifts their clock: tests of deadlines need not wait."""

    def __init__(self, redis: "Redis", offset: timedelta = timedelta(0)) -> None:
        prelude = (FOLDER / "prelude.lua").read_text(encoding="utf-8")
        self._offset_ms = milliseconds(offset)
        self._scripts = {
            path.stem: redis.register_script(prelude + path.read_text(encoding="utf-8"))
            for path in FOLDER.glob("*.lua")
            if path.stem != "prelude"
        }
        if not self._scripts:
            raise ConfigurationError(f"no Lua scripts in {FOLDER}: the installation is incomplete")

    def run(self, name: str, keys: Sequence[str], args: Sequence[str | int | float | bytes]) -> Any:
        return self._scripts[name](keys=list(keys), args=[*args, self._offset_ms])


def milliseconds(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
