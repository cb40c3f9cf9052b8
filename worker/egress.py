"""Makes one HTTP request to an address that a stranger named. The only way out to the world.

The address is checked where the socket is made, so neither a name that resolves to a private address nor one
that changes its mind between check and use gets through. No redirects; the response is capped.
"""

import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import httpcore

from jobs.callback import Network, address_allowed
from jobs.errors import CallbackForbidden

RESPONSE_BYTES = 4_096

WRITTEN_AT_ONCE = 16_384
"""Bytes: a peer that reads slowly is looked at as often."""

PHASES = 3
"""Connecting, sending, reading: each may take the timeout, and all together no longer than that thrice."""


class Deadline(threading.local):
    """When the request of this thread must be over, by the monotonic clock."""

    at = math.inf

    def left(self, timeout: float | None) -> float:
        """Seconds that the next wait may take: a timeout alone begins anew with each byte that drips in."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("it was not over in time")
        return left if timeout is None else min(timeout, left)


class TimedStream(httpcore.NetworkStream):
    """A connection on which no request takes longer than its deadline, however slowly the peer goes on."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITTEN_AT_ONCE):
            self._stream.write(buffer[start : start + WRITTEN_AT_ONCE], self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name once, refuses addresses that may not be called, and connects to what it checked."""

    def __init__(self, allowed: Sequence[Network], deadline: Deadline) -> None:
        self._allowed = allowed
        self._deadline = deadline
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
        wait = self._deadline.left(timeout)
        stream = self._sync.connect_tcp(str(addresses[0]), port, wait, local_address, socket_options)
        return TimedStream(stream, self._deadline)


class Egress:
    """Posts bodies. One pool for the process."""

    def __init__(self, allowed: Sequence[Network], timeout: timedelta) -> None:
        self._deadline = Deadline()
        backend = CheckedBackend(allowed, self._deadline)
        self._pool = httpcore.ConnectionPool(network_backend=backend, max_connections=64)
        self._timeout = timeout.total_seconds()

    def post(self, url: str, headers: Mapping[bytes | str, bytes | str], body: bytes) -> tuple[int, str]:
        """Status and the beginning of the answer.

        It is over after three times the timeout, so a target that drips holds no thread; reading the answer's
        text stops after one.
        Raises `CallbackForbidden` for an address that may not be called, httpcore's errors for the rest.
        """
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        self._deadline.at = time.monotonic() + PHASES * self._timeout
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
