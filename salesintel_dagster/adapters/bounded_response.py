"""The standard library's HTTP response, without the header whose reading costs the square of its length.

`http.client` hands a head to the email parser, which looks for a multipart boundary: a Content-Type of 64 KB took 2 s
of a core, one of 256 KB in folded lines 16 times that, and no deadline is looked at meanwhile. Nobody reads it here.
"""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING, cast

from salesintel_dagster.adapters.pinned_sockets import BoundedReader

if TYPE_CHECKING:
    import socket

MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 100
"""Both as `http.client` has them."""

_PROTOCOL = b"HTTP/"
_INTERIM = b"100"
_UNREAD = b"content-type"
_FOLDED = (b" ", b"\t")


class BoundedResponse(http.client.HTTPResponse):
    """The answer to a GET; of its headers Content-Type and folded lines are missing."""

    def __init__(self, reader: BoundedReader) -> None:
        super().__init__(cast("socket.socket", reader), method="GET")

    def begin(self) -> None:
        """Read the head. Raises http.client.HTTPException, and what the reader raises."""
        body = self.fp
        self.fp = cast("io.BufferedReader", io.BytesIO(_head(body)))
        try:
            super().begin()
        finally:
            self.fp = body


def _head(answer: io.BufferedReader) -> bytes:
    """Return status line and headers of the first answer that is not an interim one; b"" when none comes."""
    while answer.peek(1):
        status = _line(answer)
        headers = _headers(answer) if status.startswith(_PROTOCOL) else []
        if status.split(None, 2)[1:2] != [_INTERIM]:
            return b"\r\n".join([status, *headers, b"", b""])
    return b""


def _headers(answer: io.BufferedReader) -> list[bytes]:
    headers: list[bytes] = []
    for _ in range(MAX_HEADERS):
        line = _line(answer)
        if not line:
            return headers
        if not line.startswith(_FOLDED) and line.partition(b":")[0].lower() != _UNREAD:
            headers.append(line)
    raise http.client.HTTPException(f"got more than {MAX_HEADERS} headers")


def _line(answer: io.BufferedReader) -> bytes:
    """Return a line without its end; to the email parser a lone CR inside would be the end of another one."""
    line = answer.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise http.client.LineTooLong("header line")
    return line.rstrip(b"\r\n").replace(b"\r", b" ")
