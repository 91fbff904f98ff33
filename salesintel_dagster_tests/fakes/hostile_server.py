"""A server on loopback whose answers a test writes byte by byte."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

Answer = bytes | Callable[[socket.socket], None]


class HostileServer:
    """Answers a path as told: bytes are sent as they are, a callable does what it likes with the connection."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[bytes] = []
        self.connections = 0
        self.sent = 0
        self._tls = tls
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.pair = f"127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return f"http://{self.pair}{path}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5)
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def paths(self) -> list[str]:
        return [request.split(b" ")[1].decode() for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                talked = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
                with talked:
                    self._talk(talked)
            except OSError:
                return

    def _talk(self, connection: socket.socket) -> None:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            while b"\r\n\r\n" in received:
                request, received = received.split(b"\r\n\r\n", 1)
                self.requests.append(request)
                answer = self.answers[request.split(b" ")[1].decode()]
                if callable(answer):
                    answer(connection)
                    return
                connection.sendall(answer)

    def flood(self, head: bytes, chunk: bytes, times: int) -> Callable[[socket.socket], None]:
        def send(connection: socket.socket) -> None:
            connection.sendall(head)
            for _ in range(times):
                connection.sendall(chunk)
                self.sent += len(chunk)

        return send


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Content-Type: image/jpeg", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def drip(data: bytes, seconds: float = 0.05) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(seconds)

    return send
