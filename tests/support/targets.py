"""Targets of callbacks that misbehave: each answers as it is told, and says what it has received."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from cli.demo import Received

Answer = Callable[["Target", socket.socket], None]
"""Answers one request on its connection."""


@dataclass
class Target:
    """`held`: requests that it has and has not answered."""

    port: int
    answers: list[Answer]
    received: list[Received] = field(default_factory=list)
    held: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [received.headers["webhook-id"] for received in self.received]

    def serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = _read(connection)
            if request is None:
                return
            with self._lock:
                number = len(self.received)
                self.received.append(request)
                self.held += 1
            try:
                self.answers[min(number, len(self.answers) - 1)](self, connection)
            finally:
                with self._lock:
                    self.held -= 1


def says(status: int) -> Answer:
    """Answers with a status."""
    text = f"HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    return lambda _, connection: connection.sendall(text.encode())


def hangs(target: Target, connection: socket.socket) -> None:
    """Says nothing for as long as the caller waits."""
    connection.settimeout(0.1)
    while not target.closing.is_set():
        with suppress(TimeoutError):
            if connection.recv(1) == b"":
                return


def drips(target: Target, connection: socket.socket) -> None:
    """Sends the header of an answer a byte at a time, and never its end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-long: ")
    while not target.closing.wait(0.2):
        connection.sendall(b"x")


def babbles(_: Target, connection: socket.socket) -> None:
    """Sends what is not HTTP."""
    connection.sendall(b"hello, this is not the protocol you are looking for\r\n\r\n")


@contextmanager
def target(*answers: Answer, port: int = 0) -> Iterator[Target]:
    """A target on loopback: the first request gets the first answer, …, all further ones the last."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        running = Target(listener.getsockname()[1], list(answers))
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    thread = threading.Thread(target=running.serve, args=(connection,), daemon=True)
                    thread.start()
                    threads.append(thread)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield running
        finally:
            running.closing.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            for thread in threads:
                thread.join(5)


def _read(connection: socket.socket) -> Received | None:
    """One request, its body by its content-length; None if the caller leaves before its end."""
    with connection.makefile("rb") as stream:
        headers: dict[str, str] = {}
        for line in iter(stream.readline, b"\r\n"):
            if not line:
                return None
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return Received(headers, stream.read(int(headers.get("content-length", "0"))))
