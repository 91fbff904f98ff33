"""A TCP wire between a client and a real server on loopback, which can be cut, stalled or slowed down."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CHUNK_BYTES = 65_536
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What libpq sends first where it wants TLS."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a connection once the server has said `after_bytes`: `cut`, `stall`, or a byte at a time."""

    kind: str
    after_bytes: int = 0


class Wire:
    """Takes connections on `port` and passes them on. The n-th one has the n-th of `faults`, later ones have none.

    `said` holds every byte of the clients; `before_passing` sees each piece of it before the server does, and `altered`
    may change what the server says. `passed` counts the bytes that the clients were given.
    """

    def __init__(self, server_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.faults: list[Fault] = []
        self.said = bytearray()
        self.connections = 0
        self.before_passing: Callable[[bytes], None] = lambda _piece: None
        self.altered: Callable[[bytes], bytes] = lambda piece: piece
        self.passed = 0
        self._server_port = server_port
        self._tls = tls
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, job: Callable[..., None], *words: object) -> threading.Thread:
        thread = threading.Thread(target=job, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, client, self.faults.pop(0) if self.faults else None)

    def _serve(self, client: socket.socket, fault: Fault | None) -> None:
        try:
            client = self._upgraded(client)
        except OSError:
            client.close()
            return
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server, suppress(OSError):
            answers = self._start(self._pass_answers, server, client, fault)
            while piece := client.recv(CHUNK_BYTES):
                self.said += piece
                self.before_passing(piece)
                server.sendall(piece)
            server.shutdown(socket.SHUT_RDWR)
            answers.join(5)

    def _upgraded(self, client: socket.socket) -> socket.socket:
        """Stand in for a Postgres that speaks TLS."""
        if self._tls is None:
            return client
        assert client.recv(len(SSL_REQUEST), socket.MSG_WAITALL) == SSL_REQUEST
        client.sendall(b"S")
        return self._tls.wrap_socket(client, server_side=True)

    def _pass_answers(self, server: socket.socket, client: socket.socket, fault: Fault | None) -> None:
        passed = 0
        with suppress(OSError):
            while piece := self.altered(server.recv(CHUNK_BYTES)):
                if fault is not None and passed + len(piece) > fault.after_bytes:
                    client.sendall(piece[: fault.after_bytes - passed])
                    self._fail(client, fault.kind, piece[fault.after_bytes - passed :])
                    return
                client.sendall(piece)
                passed += len(piece)
                self.passed += len(piece)
            client.shutdown(socket.SHUT_WR)

    def _fail(self, client: socket.socket, kind: str, rest: bytes) -> None:
        if kind == "drip":
            for byte in rest:
                client.sendall(bytes([byte]))
                if self._closing.wait(0.1):
                    return
        if kind == "stall":
            self._closing.wait(60)
        client.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(server_port: int, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    opened = Wire(server_port, tls)
    try:
        yield opened
    finally:
        opened.close()
