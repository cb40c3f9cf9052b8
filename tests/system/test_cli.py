"""The command line: what it refuses, it refuses with a sentence, before anything is started."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.podium_up import clean_environ, podium_up


def podium(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env={**clean_environ(), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands() -> None:
    said = podium("--help")
    assert said.returncode == 0
    for command in ("up", "demo", "api", "worker", "flower", "config"):
        assert command in said.stdout


def test_config_shows_the_settings_in_force_without_secrets() -> None:
    shown = podium("config", PODIUM_API_KEYS="me:hush-hush", PODIUM_JOBS__LEASE="7")
    assert "hush-hush" not in shown.stdout + shown.stderr
    assert json.loads(shown.stdout)["jobs"]["lease"] == 7


def test_a_setting_that_does_not_exist_is_named() -> None:
    said = podium("config", PODIUM_JOBS__LEESE="7")
    assert said.returncode == 2
    assert "PODIUM_JOBS__LEESE" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_port_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = podium("up", f"--port={taken.getsockname()[1]}", f"--data-dir={tmp_path}")
    assert said.returncode == 2
    assert "--port" in said.stderr


def test_listening_beyond_loopback_without_keys_is_refused(tmp_path: Path) -> None:
    for command in (["up", f"--data-dir={tmp_path}"], ["api"]):
        said = podium(*command, "--host=0.0.0.0")
        assert said.returncode == 2
        assert "PODIUM_API_KEYS" in said.stderr


def test_a_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    said = podium("up", f"--data-dir={tmp_path}", PODIUM_REDIS_URL="redis://me:hush-hush@127.0.0.1:1/0")
    assert said.returncode == 2
    assert "127.0.0.1:1" in said.stderr
    assert "PODIUM_REDIS_URL" in said.stderr
    assert "hush-hush" not in said.stderr + said.stdout


def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    said = podium("up", "--model=nonsense", f"--data-dir={tmp_path}")
    assert said.returncode != 0
    assert "minilm" in said.stdout + said.stderr


def test_a_part_that_dies_while_starting_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    said = podium("up", f"--data-dir={tmp_path}", PODIUM_ENGINE__MODEL_PATH="/no/such/folder")
    assert said.returncode == 1
    assert "score ended with code 2" in said.stderr
    assert "PODIUM_ENGINE__MODEL_PATH=/no/such/folder is not a folder" in said.stderr


def test_two_services_on_one_data_folder_are_refused(tmp_path: Path) -> None:
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake"):
        said = podium("up", f"--data-dir={tmp_path}")
    assert said.returncode == 2
    assert "another `podium up`" in said.stderr
