"""`podium flower`: Celery's dashboard, for those who may see it."""

import os

from api.auth import on_loopback
from jobs.errors import ConfigurationError
from jobs.queue import make_app
from jobs.settings import Settings


def flower(settings: Settings, host: str, port: int) -> int:
    """Runs until a signal. Raises `ConfigurationError` where anyone could look, and stop workers."""
    if not on_loopback(host) and not settings.flower_logins:
        raise ConfigurationError(
            f"Flower on {host} without a login would let anyone in: "
            "set PODIUM_FLOWER_AUTH=user:password, or use 127.0.0.1"
        )
    if settings.flower_logins:
        # Not as an option: everybody on this machine can read a command line.
        os.environ["FLOWER_BASIC_AUTH"] = ",".join(settings.flower_logins)
    make_app(settings).start(["flower", f"--address={host}", f"--port={port}"])
    return 0
