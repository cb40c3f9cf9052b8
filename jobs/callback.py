"""What a callback is: its target policy, its body, its schedule. Pure: nothing here calls anybody."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from jobs.errors import CallbackForbidden
from jobs.model import CallbackTarget, Failure, Result, Value
from jobs.states import CallbackState, JobState

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SCHEDULE = tuple(timedelta(seconds=s) for s in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""Waits before each further attempt: the schedule that the Standard Webhooks specification recommends."""

INLINE_BYTES = 256 * 1024
"""A larger result is never sent along; the body's URL leads to it."""


class CallbackRecord(Value):
    """One callback and what was tried so far. Owns its body: it outlives the job's result."""

    job_id: str
    owner: str
    state: CallbackState
    target: CallbackTarget
    body: str
    attempts: tuple[dict[str, Any], ...]
    replayed_after: int = Field(0, description="attempts before the last replay: the schedule began anew")


def next_wait(attempts: int) -> timedelta | None:
    """How long to wait after that many failed attempts; None when the schedule is used up."""
    return SCHEDULE[attempts - 1] if 0 < attempts <= len(SCHEDULE) else None


def address_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """May a callback connect to `address`? Public ones may; others only if a setting names them."""
    mapped = getattr(address, "ipv4_mapped", None)
    real: Address = mapped or address
    return (real.is_global and not real.is_multicast) or any(
        real.version == network.version and real in network for network in allowed
    )


def check_target(url: str, allowed: Sequence[Network]) -> None:
    """Refuses a URL that can be seen to be wrong. A name is checked again when its address is connected to.

    Raises `CallbackForbidden` with the field's path.
    """
    field = "callback.url"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CallbackForbidden(f"not a URL: {error}", field=field) from error
    if parts.scheme not in ("http", "https") or not host:
        raise CallbackForbidden("must be an http(s) URL with a host", field=field)
    if parts.username or parts.password:
        raise CallbackForbidden("must not carry a user name or password", field=field)
    local = host == "localhost" or host.endswith(".localhost")
    try:
        address: Address | None = IPv4Address("127.0.0.1") if local else ip_address(host)
    except ValueError:
        address = None
    if address is not None and not address_allowed(address, allowed):
        raise CallbackForbidden(
            f"{host} is a private address; the operator can allow it with PODIUM_CALLBACK_ALLOW", field=field
        )
    named = address is not None and any(
        address.version == network.version and address in network for network in allowed
    )
    if parts.scheme == "http" and not named:
        raise CallbackForbidden("must be https (http only to addresses allowed by setting)", field=field)


def body(
    job_id: str, state: JobState, end: Result | Failure, target: CallbackTarget, url: str, metadata: object
) -> str:
    """The JSON that the target gets: thin, or with the result when it was asked for and is small."""
    data: dict[str, Any] = {
        "id": job_id,
        "status": state.value,
        "url": url,
        "metadata": metadata,
    }
    if isinstance(end, Failure):
        data["error"] = end.model_dump(mode="json")
    elif target.include_result:
        text = end.model_dump_json()
        if len(text.encode()) <= INLINE_BYTES:
            data["result"] = json.loads(text)
    return json.dumps(
        {"type": f"job.{state.value}", "timestamp": datetime.now(UTC).isoformat(), "data": data}
    )
