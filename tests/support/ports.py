"""Ports that a test may give to a server which it starts in a while."""

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A loopback port that is nobody else's until this process ends.

    A socket holds it, but does not listen. So a server may bind it (they all allow the reuse of an address),
    who connects before that is refused, and nobody who asks for any free port is given this one.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    return int(holder.getsockname()[1])
