"""The command line: what it refuses, it refuses with a sentence, before anything is started."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.settings import Settings
from jobs.store import Store
from tests.support.podium_up import clean_environ, podium_up
from tests.support.ports import free_port
from tests.support.waiting import until


def podium(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env={**clean_environ(), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that goes on until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env={**clean_environ(), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def up(data_dir: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """`podium up`, on ports that nobody has; the last of equal options counts."""
    ports = (f"--port={free_port()}", f"--flower-port={free_port()}")
    return podium("up", *ports, f"--data-dir={data_dir}", *arguments, **environ)


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
        said = up(tmp_path, f"--port={taken.getsockname()[1]}")
    assert said.returncode == 2
    assert "--port" in said.stderr


def test_listening_beyond_loopback_without_keys_is_refused(tmp_path: Path) -> None:
    for said in (up(tmp_path, "--host=0.0.0.0"), podium("api", "--host=0.0.0.0")):
        assert said.returncode == 2
        assert "PODIUM_API_KEYS" in said.stderr


def test_flower_beyond_loopback_without_a_login_is_refused() -> None:
    said = podium("flower", "--host=0.0.0.0")
    assert said.returncode == 2
    assert "PODIUM_FLOWER_AUTH" in said.stderr


def test_flower_asks_for_the_login_and_its_health_check_does_not(settings: Settings) -> None:
    host, port = "127.0.0.2", free_port()
    environ = {"PODIUM_REDIS_URL": settings.redis_url, "PODIUM_FLOWER_AUTH": "me:one, you:hush-hush"}
    with (
        running("flower", f"--host={host}", f"--port={port}", **environ) as process,
        httpx.Client(base_url=f"http://{host}:{port}", trust_env=False) as client,
    ):

        def healthy() -> bool:
            assert process.poll() is None, "it ended"
            with suppress(httpx.ConnectError):
                return client.get("/healthcheck").is_success
            return False

        until("healthy", healthy, 30)
        for login, status in (
            (None, 401),
            (("you", "one"), 401),
            (("me", "one"), 200),
            (("you", "hush-hush"), 200),
        ):
            assert client.get("/workers", auth=login).status_code == status, login
        assert client.post("/api/worker/shutdown/any").status_code == 401
        assert "hush" not in " ".join(psutil.Process(process.pid).cmdline())


def test_a_worker_is_alive_on_its_host_while_its_heart_beats(settings: Settings, store: Store) -> None:
    def alive() -> "subprocess.CompletedProcess[str]":
        return podium("worker", "alive", PODIUM_REDIS_URL=settings.redis_url)

    def beat(host: str) -> None:
        name = f"score-1@{host}"
        store.heartbeat(name, {"name": name, "role": "score", "model": "minilm"}, timedelta(minutes=1))

    beat(f"{socket.gethostname()}-2")
    said = alive()
    assert said.returncode == 1
    assert f"no worker of {socket.gethostname()}" in said.stderr
    beat(socket.gethostname())
    assert alive().returncode == 0
    said = podium("worker", "alive", PODIUM_REDIS_URL="redis://127.0.0.1:1/0")
    assert said.returncode == 1
    assert "Traceback" not in said.stderr


@pytest.mark.usefixtures("store")
def test_a_worker_that_runs_is_alive(settings: Settings) -> None:
    environ = {
        "PODIUM_REDIS_URL": settings.redis_url,
        "PODIUM_CALLBACK_SECRET": "whsec_" + "hush" * 10,
    }
    with running("worker", "callbacks", **environ) as process:

        def alive() -> bool:
            assert process.poll() is None, "it ended"
            return podium("worker", "alive", **environ).returncode == 0

        until("alive", alive, 60)
    assert podium("worker", "alive", **environ).returncode == 1


def test_a_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    said = up(tmp_path, PODIUM_REDIS_URL="redis://me:hush-hush@127.0.0.1:1/0")
    assert said.returncode == 2
    assert "127.0.0.1:1" in said.stderr
    assert "PODIUM_REDIS_URL" in said.stderr
    assert "hush-hush" not in said.stderr + said.stdout


def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    said = up(tmp_path, "--model=nonsense")
    assert said.returncode != 0
    assert "minilm" in said.stdout + said.stderr


def test_a_part_that_dies_while_starting_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    said = up(tmp_path, PODIUM_ENGINE__MODEL_PATH="/no/such/folder")
    assert said.returncode == 1
    assert "score ended with code 2" in said.stderr
    assert "PODIUM_ENGINE__MODEL_PATH=/no/such/folder is not a folder" in said.stderr


def test_two_services_on_one_data_folder_are_refused(tmp_path: Path) -> None:
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake"):
        said = up(tmp_path)
    assert said.returncode == 2
    assert "another `podium up`" in said.stderr


def test_up_hands_flowers_login_and_the_fsync_on_and_becomes_ready(tmp_path: Path) -> None:
    environ = {"PODIUM_FLOWER_AUTH": "me:hush-hush", "PODIUM_REDIS_FSYNC": "always"}
    with podium_up(tmp_path, PODIUM_ENGINE__KIND="fake", **environ) as service:
        until("ready, Flower too", lambda: "Ready after" in service.output.read_text(), 60)
        assert httpx.get(f"{service.flower}/workers", trust_env=False).status_code == 401
        assert "appendfsync always" in (tmp_path / "valkey.conf").read_text()
