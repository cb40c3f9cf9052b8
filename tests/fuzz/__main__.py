"""`python -m tests.fuzz --time 60`: Schemathesis against a real API with a worker: 0 if it finds nothing.

Half of the time with keys, half without. What it sends is made from the service's own OpenAPI, valid and
invalid; what it looks for is any 5xx, any answer that the OpenAPI does not describe, and any way past a key.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.parts import parts

KEY = "a-key-of-the-fuzzer"
SETTINGS = Path(__file__).parent / "schemathesis.toml"
STEP = "0.02"
"""Seconds of an engine's step: long enough for a job to be cancelled while it runs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--time", type=int, default=60, help="seconds")
    parser.add_argument("--seed", type=int, help="default: another one each time; it is printed")
    asked = parser.parse_args()
    each = max(1, asked.time // 2)
    found = [fuzz(keys, each, asked.seed) for keys in (f"fuzzer:{KEY},other:another-key", "")]
    return int(any(found))


def fuzz(keys: str, seconds: int, seed: int | None) -> int:
    """Schemathesis' exit code."""
    environ = {"PODIUM_API_KEYS": keys, "PODIUM_ENGINE__FAKE_STEP": STEP}
    names = ("api", "callbacks", "score-1")
    with (
        tempfile.TemporaryDirectory(prefix="podium-fuzz-") as folder,
        parts(Path(folder), *names, **environ) as run,
    ):
        st = [str(Path(sys.executable).with_name("st")), "--config-file", str(SETTINGS), "run"]
        st += [f"{run.url}/openapi.json", "--max-time", str(seconds), "--continue-on-failure"]
        if keys:
            st += ["--header", f"Authorization: Bearer {KEY}"]
        if seed is not None:
            st += ["--seed", str(seed)]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": str(SETTINGS.with_name("hooks.py"))}
        code = subprocess.run(st, cwd=folder, env=env, check=False).returncode
        if code:
            sys.stdout.write(run.log("api")[-5_000:])
        return code


if __name__ == "__main__":
    sys.exit(main())
