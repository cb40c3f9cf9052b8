"""Makes one HTTP request to an address that a stranger named. The only way out to the world.

The address is checked where the socket is made, so neither a name that resolves to a private address nor one
that changes its mind between check and use gets through. No redirects; the response is capped.
"""

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address

import httpcore

from jobs.callback import Network, address_allowed
from jobs.errors import CallbackForbidden

RESPONSE_BYTES = 4_096


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name once, refuses addresses that may not be called, and connects to what it checked."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._sync = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if not address_allowed(address, self._allowed):
                raise CallbackForbidden(f"{host} leads to {address}, which may not be called")
        return self._sync.connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)


class Egress:
    """Posts bodies. One pool for the process."""

    def __init__(self, allowed: Sequence[Network], timeout: timedelta) -> None:
        self._pool = httpcore.ConnectionPool(network_backend=CheckedBackend(allowed), max_connections=64)
        self._timeout = timeout.total_seconds()

    def post(self, url: str, headers: Mapping[bytes | str, bytes | str], body: bytes) -> tuple[int, str]:
        """Status and the beginning of the answer.

        Reading stops when the timeout has passed: a target that drips holds no thread.
        Raises `CallbackForbidden` for an address that may not be called, httpcore's errors for the rest.
        """
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        with self._pool.stream(
            "POST", url, headers=headers, content=body, extensions={"timeout": timeouts}
        ) as response:
            received, enough = b"", time.monotonic() + self._timeout
            for chunk in response.iter_stream():
                received += chunk
                if len(received) >= RESPONSE_BYTES or time.monotonic() > enough:
                    break
        return response.status, received[:RESPONSE_BYTES].decode("utf-8", "replace")

    def close(self) -> None:
        self._pool.close()
