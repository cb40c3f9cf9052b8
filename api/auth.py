"""Who asks: the name of a bearer key, or `local` when no keys are set (loopback only)."""

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from functools import cache, partial
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import SecretStr

from jobs.errors import ConfigurationError, Unauthorized
from jobs.settings import Settings, parse_keys

LOCAL = "local"

bearer = HTTPBearer(
    auto_error=False, description="One of the operator's PODIUM_API_KEYS; not needed without keys"
)
"""For OpenAPI; `find_owner` reads the header itself."""


class KeyedRoute(APIRoute):
    """A route that asks for a key before it reads anything of a request's body. Raises `Unauthorized`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            request.state.owner = find_owner(request)
            return await handle(request)

        return keyed


def find_owner(request: Request) -> str:
    """The caller's name. Raises `Unauthorized`.

    Every key is compared, and by its digest: the time tells nothing of a key, nor whether it was right.
    """
    settings: Settings = request.app.state.settings
    if not settings.keys:
        return LOCAL
    scheme, given = get_authorization_scheme_param(request.headers.get("Authorization"))
    asked, found = hashlib.sha256(given.encode()).digest(), None
    for digest, name in _digests(settings.api_keys).items():
        found = name if hmac.compare_digest(digest, asked) else found
    if found is None or scheme.lower() != "bearer":
        raise Unauthorized("send one of this service's keys: Authorization: Bearer …")
    return found


@cache
def _digests(keys: SecretStr) -> dict[bytes, str]:
    """The name of each caller by the digest of their key."""
    return {hashlib.sha256(key.encode()).digest(): name for key, name in parse_keys(keys).items()}


async def owner(request: Request) -> str:
    """What `KeyedRoute` has found."""
    found: str = request.state.owner
    return found


Owner = Annotated[str, Depends(owner)]
"""The name of the caller, for a route."""

keyed = partial(APIRouter, route_class=KeyedRoute, dependencies=[Depends(bearer)])
"""A router whose routes all ask for a key, whether they want to know the `Owner` or not."""


def check_exposure(host: str, settings: Settings) -> None:
    """Without keys the API stays on loopback. Raises `ConfigurationError`."""
    if not on_loopback(host) and not settings.keys:
        raise ConfigurationError(
            f"listening on {host} without keys would let anyone in: "
            "set PODIUM_API_KEYS=name:key, or use 127.0.0.1"
        )


def on_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
