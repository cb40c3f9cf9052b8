"""Makes .venv in the project's root and installs Podium there, so that everything runs.

No root, no Docker. A second run with nothing changed ends at once.
"""

from __future__ import annotations  # so that an old Python gets as far as its sentence

import argparse
import ast
import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import NoReturn
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"
FREE_GIB = 6
UV = "uv>=0.11"
# The CPU engine's packages name them. It needs the first three for no text, and it turns Triton off.
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec", "triton")
SAME = {  # pip's settings that uv knows under another name
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "constraint": "UV_CONSTRAINT",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
ADVICE = (
    "{} failed; its last lines are above. If the network is why: set pip's proxy, cert or index-url for "
    "yours (as in `pip config set global.cert FILE`), which set-up follows, and run it again."
)
BEGAN = time.monotonic()
LOCK: list[int] = []


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:.0f} s] {text}", flush=True)


def stop(sentence: str, output: str = "") -> NoReturn:
    lines = [f"    {line}" for line in output.strip().splitlines()[-20:]]
    sys.exit("\n".join([*lines, f"Set-up stopped: {sentence}"]))


def run(env: dict[str, str], *command: str | Path) -> tuple[bool, str]:
    """Whether the command went well, and all it said."""
    done = subprocess.run(
        command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd=ROOT, env=env, pass_fds=LOCK
    )
    return done.returncode == 0, done.stdout.decode(errors="replace")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def check(extras: list[str]) -> None:
    if sys.version_info < (3, 11):
        stop(f"Podium needs Python 3.11 or newer; this is {platform.python_version()}.")
    if {"cpu", "worker"} <= set(extras):
        stop("the extras cpu and worker exclude each other; name one of them.")
    system, machine = platform.system(), platform.machine()
    fits = system == "Linux" and machine in ("x86_64", "aarch64")
    if os.name != "posix" or ("cpu" in extras and not fits):
        stop(
            "Podium's embedded engine runs on Linux x86-64 or aarch64 (also WSL2); here is "
            f"{system} {machine}: use a Linux machine, or WSL2 on Windows."
        )
    if "cpu" in extras and not loads("libnuma.so.1"):
        stop("the CPU engine needs the library libnuma; on Debian or Ubuntu install libnuma1.")
    if importlib.util.find_spec("ensurepip") is None:
        stop("this Python cannot make a .venv with pip; on Debian or Ubuntu install python3-venv.")


def lock() -> None:
    """One set-up at a time. Children hold it too: the uv of a killed set-up may still write."""
    import fcntl  # not on Windows, which check() has turned away

    LOCK.append(os.open(ROOT, os.O_RDONLY))
    try:
        fcntl.flock(LOCK[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up of this folder")
        fcntl.flock(LOCK[0], fcntl.LOCK_EX)


def local(place: str) -> Path | None:
    """The path of a place on this machine, None for a remote one."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else ROOT / Path(place).expanduser()


def uv_settings(env: dict[str, str]) -> dict[str, str]:
    """What pip's files and variables say, in uv's variables: uv reads only its own."""
    lines = run(env, PYTHON, "-m", "pip", "config", "list")[1].splitlines()
    pip: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):  # the later one wins, as in pip
        for name, _, value in (line.partition("=") for line in lines if line.startswith(section)):
            pip[name.removeprefix(section)] = " ".join(ast.literal_eval(value).split())
    uv = {variable: pip[name] for name, variable in SAME.items() if pip.get(name)}
    links: list[str] = []
    indexes: list[str] = []
    for place in pip.get("find-links", "").split():
        path = local(place)
        if path is None or path.exists():  # pip passes over a missing folder, uv fails at one
            links.append(str(path or place))
    for place in pip.get("extra-index-url", "").split():
        path = local(place)
        flat = path is not None and any(path.glob("*.whl"))
        (links if flat else indexes).append(str(path) if flat else place)
    uv["UV_FIND_LINKS"] = ",".join(links)
    uv["UV_INDEX"] = " ".join(indexes)
    uv["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # the best version of all indexes, as in pip
    uv["UV_SYSTEM_CERTS"] = "1"
    return {name: value for name, value in uv.items() if value}


def install(env: dict[str, str], extras: list[str]) -> None:
    uv: list[str | Path] = [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON]
    uv += ["--compile-bytecode", "--editable", f".[{','.join(extras)}]"]
    if "cpu" in extras:
        left_out = VENV / "left-out.txt"
        left_out.write_text("\n".join(LEFT_OUT), encoding="utf-8")
        uv += ["--excludes", left_out]
    done, output = run(env, *uv)
    if not done and "No solution found" in output and "+cpu" in output:  # known before any download
        say("pip's sources have no CPU build of PyTorch: taking it from PyTorch's own index")
        done, more = run(env, *uv, "--torch-backend", "cpu")
        output += more
    if not done:
        stop(ADVICE.format("the install"), output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="bench,cpu,eval,page,dev", help="default: %(default)s")
    extras = sorted({extra.strip() for extra in parser.parse_args().extras.split(",")} - {""})
    check(extras)
    lock()

    kind = f"Python {platform.python_version()}, {','.join(extras)}, {ROOT}"
    sources = (ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()
    wanted = f"{kind}\n{hashlib.sha256(sources).hexdigest()}\n"
    whole = STAMP.exists() and PYTHON.exists()
    found = STAMP.read_text(encoding="utf-8") if whole else ""
    if found == wanted:
        say(".venv is up to date.")
        return

    if shutil.disk_usage(ROOT).free < FREE_GIB << 30:
        stop(f"less than {FREE_GIB} GiB are free on the disk of {ROOT}; make room.")
    # Without kept bytecode each start of the engine would compile thousands of files.
    env = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    STAMP.unlink(missing_ok=True)
    if not found.startswith(f"{kind}\n"):
        say("making .venv, with uv as its installer")
        # The base, since the python3 of an active .venv is about to go.
        base = str(getattr(sys, "_base_executable", sys.executable))
        done, output = run(env, base, "-m", "venv", "--clear", VENV)
        if not done:
            stop("the .venv could not be made.", output)
        done, output = run(env, PYTHON, "-m", "pip", "install", "--quiet", UV)
        if not done:
            stop(ADVICE.format("fetching uv"), output)
    size = " (about 0.8 GB to fetch)" if "cpu" in extras else ""
    say(f"installing Podium with {', '.join(extras) or 'no extras'}{size}")
    install({**uv_settings(env), **env}, extras)
    STAMP.write_text(wanted, encoding="utf-8")
    say("all is installed in .venv.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; run it again.")
    except OSError as error:
        stop(f"{error}")
