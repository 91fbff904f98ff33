"""A webhook's server on loopback: real sockets, one scripted answer a request, every request kept."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = bytes | Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()


class WebhookServer:
    """Gives the answers of `script` in turn, then OK. `posted` are the texts, `heads` the raw request heads."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.posted: list[str] = []
        self.heads: list[str] = []
        self.stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hooks/canary-path?key=canary-key"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._take(connection)
            answer = self.script.pop(0) if self.script else OK
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)

    def _take(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection)
        head, body = received.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]  # our client always sends it
        while len(body) < length:
            body += _more(connection)
        self.heads.append(head.decode())
        self.posted.append(json.loads(body)["text"])

    def drip(self, data: bytes, seconds: float) -> Callable[[socket.socket], None]:
        """Send a byte every `seconds` until the server is closed."""

        def send(connection: socket.socket) -> None:
            for byte in data:
                connection.sendall(bytes([byte]))
                if self.stop.wait(seconds):
                    return

        return send

    def silence(self, _connection: socket.socket) -> None:
        """Never answer."""
        self.stop.wait(30)


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionError
    return received


@contextmanager
def webhook_server() -> Iterator[WebhookServer]:
    server = WebhookServer()
    try:
        yield server
    finally:
        server.close()
