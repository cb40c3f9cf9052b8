"""Loads `lua/*.lua` and calls them. The only place that knows that transitions are scripts."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import NoScriptError

from jobs.errors import ConfigurationError
from jobs.together import Together

FOLDER = Path(__file__).with_name("lua")
GROW = ("create", "remember")
"""The scripts that a full Redis refuses. All others must go on, or accepted jobs could not end."""


T = TypeVar("T")


class Question(NamedTuple, Generic[T]):
    """What a script is asked, and what its answer means. Who asks it, and how, is not its business.

    `raw`: texts in the answer are bytes, for one that holds compressed values.
    """

    script: str
    keys: Sequence[str]
    args: Sequence[str | int | float | bytes]
    read: Callable[[Any], T]
    raw: bool = False


class Scripts:
    """Every script by its file's name. `offset` shifts their clock: tests of deadlines need not wait."""

    def __init__(self, redis: "Redis", offset: timedelta = timedelta(0)) -> None:
        prelude = (FOLDER / "prelude.lua").read_text(encoding="utf-8")
        self._redis = redis
        self._together = Together(redis)
        self._offset_ms = milliseconds(offset)
        self._scripts = {
            path.stem: redis.register_script(
                f"#!lua flags={'' if path.stem in GROW else 'allow-oom'}\n"
                + prelude
                + path.read_text(encoding="utf-8")
            )
            for path in FOLDER.glob("*.lua")
            if path.stem != "prelude"
        }
        if not self._scripts:
            raise ConfigurationError(f"no Lua scripts in {FOLDER}: the installation is incomplete")

    def run(
        self,
        name: str,
        keys: Sequence[str],
        args: Sequence[str | int | float | bytes],
        *,
        raw: bool = False,
        together: bool = False,
    ) -> Any:
        """What the script returns. `raw`: texts in it are bytes, for answers that hold compressed values.

        `together`: with those of other threads, for what comes often; it waits for one that is on its way.
        """
        options = {"NEVER_DECODE": True} if raw else {}
        call: Any = self._together.run if together else self._redis.execute_command
        what = self.command(name, keys, args)
        try:
            return call(*what, **options)
        except NoScriptError:  # a server that was started anew
            self._redis.script_load(self.text(name))
            return call(*what, **options)

    def command(
        self, name: str, keys: Sequence[str], args: Sequence[str | int | float | bytes]
    ) -> tuple[Any, ...]:
        """What is sent to Redis to run a script that it has."""
        return ("EVALSHA", self._scripts[name].sha, len(keys), *keys, *args, self._offset_ms)

    def text(self, name: str) -> Any:
        """For a server that does not have the script yet."""
        return self._scripts[name].script


def milliseconds(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
