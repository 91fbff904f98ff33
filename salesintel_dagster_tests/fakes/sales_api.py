"""An HTTP API of sales on loopback: real sockets, pages of its rows, one scripted answer at a time, requests kept."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from salesintel_dagster.domain.rest_source import RestParameters
from salesintel_dagster.domain.sale import SourceRow

TOKEN = "token-canary-4711"
Scripted = Callable[["Handler"], None]


class SalesApi:
    """`rows` are told in pages of `page_rows`, in the order given. `script` answers first, one entry a request.

    `style` is how pages follow each other: `link`, `number`, `cursor` or `url`. `seen` are (target, headers).
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.page_rows = 100
        self.style = "link"
        self.script: list[Scripted | None] = []
        self.extra: dict[str, Any] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.api = self  # type: ignore[attr-defined]  # how a handler finds its script
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1/sales?from={{from}}&to={{to}}&key=url-canary"

    def parameters(self, **changed: Any) -> RestParameters:  # noqa: ANN401 - any field
        styles: dict[str, dict[str, Any]] = {
            "link": {},
            "number": {"page_parameter": "page"},
            "cursor": {"next_field": "meta.next", "cursor_parameter": "after"},
            "url": {"next_field": "meta.next"},
        }
        words = {"url": self.url, "token": TOKEN, "rows_field": "data", **styles[self.style], **changed}
        return RestParameters(**words)

    def fill(self, rows: Sequence[SourceRow]) -> None:
        """Hold these rows as JSON would: instants as text, decimals as numbers."""
        self.rows = [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def api(self) -> SalesApi:
        return self.server.api  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        self.api.seen.append((self.path, dict(self.headers.items())))
        scripted = self.api.script.pop(0) if self.api.script else None
        with suppress(OSError):
            if scripted is not None:
                scripted(self)
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.answer(401, b"who are you?")
            else:
                self.page()

    def page(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        number = int(query.get("page", query.get("after", ["1"]))[0])
        size = self.api.page_rows
        chosen = self.api.rows[(number - 1) * size : number * size]
        more = number * size < len(self.api.rows)
        to = f"{self.path.partition('&page=')[0]}&page={number + 1}"
        following = {"cursor": number + 1, "url": to}.get(self.api.style) if more else None
        meta = {"next": following, "total": len(self.api.rows), "version": "v1", **self.api.extra}
        headers = {"Link": f'</v1/sales>; rel="first", <{to}>; rel="next"'} if more and self.api.style == "link" else {}
        self.answer(200, dumped({"data": chosen, "meta": meta}), headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def dumped(document: object) -> bytes:
    """Return JSON in which a Decimal is a number, digit by digit."""
    marks: dict[str, str] = {}

    def mark(value: object) -> str:
        assert isinstance(value, Decimal)
        name = f"\0{len(marks)}\0"
        marks[json.dumps(name)] = str(value)
        return name

    text = json.dumps(document, default=mark)
    for name, number in marks.items():
        text = text.replace(name, number)
    return text.encode()


def status(code: int, **headers: str) -> Scripted:
    return lambda handler: handler.answer(code, b"body-canary", {k.replace("_", "-"): v for k, v in headers.items()})


def body(data: bytes, **headers: str) -> Scripted:
    return lambda handler: handler.answer(200, data, {k.replace("_", "-"): v for k, v in headers.items()})


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def silence(handler: Handler) -> None:
    handler.api.stop.wait(30)
    handler.close_connection = True


def drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        if handler.api.stop.wait(0.05):
            return


@contextmanager
def sales_api(tls: ssl.SSLContext | None = None) -> Iterator[SalesApi]:
    api = SalesApi(tls)
    try:
        yield api
    finally:
        api.close()
