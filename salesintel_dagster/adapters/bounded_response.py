"""The standard library's HTTP response, without the header whose reading costs the square of its length.

`http.client` hands a head to the email parser, which looks for a multipart boundary: a Content-Type of 64 KB took 2 s
of a core, one of 256 KB in folded lines 16 times that, and no deadline is looked at meanwhile. Nobody reads it here.
It also takes a line that is no header for the end of the head, and a 103 for the answer: the length of what follows is
lost, or what follows is taken for the answer to the next request.
"""

from __future__ import annotations

import http.client
import io
import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from salesintel_dagster.adapters.bounded_reader import BoundedReader

if TYPE_CHECKING:
    import socket

MAX_LINE_BYTES = 64 * 1024
MAX_HEADERS = 100
"""Both as `http.client` has them."""
MAX_INTERIM_ANSWERS = 10
"""A host sends one or two. Thousands in each of the 16 answers that an image may take were 0.7 s of a core."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROTOCOL = b"HTTP/"
_INTERIM = re.compile(rb"HTTP/\S+\s+1[0-9][0-9](?:\s|$)")
_NAME = re.compile(rb"[!-9;-~]+(?=:)")
_UNREAD = b"content-type"
_FOLDED = (b" ", b"\t")


class BoundedResponse(http.client.HTTPResponse):
    """The answer to a GET; of its headers Content-Type is missing, and what is none."""

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
        told = [*self.headers.get_all("Content-Length", []), *self.headers.get_all("Transfer-Encoding", [])]
        self.will_close |= len(told) > 1 or self.status < HTTPStatus.OK  # another reader would end it elsewhere

    @property
    def redirect(self) -> str | None:
        """Where the answer leads, as UTF-8; None where it is no redirect."""
        location = self.headers.get("Location") if self.status in _REDIRECTS else None
        return location.encode("latin-1", "replace").decode("utf-8", "replace") if location else None

    def retry_after(self, now: datetime) -> float | None:
        """Return the seconds that the host asks to wait; None where it says nothing."""
        header = self.headers.get("Retry-After")
        return None if header is None else retry_after_seconds(header, now)


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """Return the wait a Retry-After header asks for, as seconds or as an HTTP date; None where it says nothing."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max((parsedate_to_datetime(text) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _head(answer: io.BufferedReader) -> bytes:
    """Return status line and headers of the first answer that is not an interim one; b"" when none comes."""
    for _ in range(MAX_INTERIM_ANSWERS + 1):
        if not answer.peek(1):
            return b""
        status = _line(answer)
        headers = _headers(answer) if status.startswith(_PROTOCOL) else []
        if not _INTERIM.match(status):
            return b"\r\n".join([status, *headers, b"", b""])
    raise http.client.HTTPException(f"got more than {MAX_INTERIM_ANSWERS} interim answers")


def _headers(answer: io.BufferedReader) -> list[bytes]:
    headers: list[bytes] = []
    is_read = False
    for _ in range(MAX_HEADERS):
        line = _line(answer)
        if not line:
            return headers
        if line.startswith(_FOLDED):
            if is_read:
                headers[-1] += line
            continue
        name = _NAME.match(line)
        is_read = name is not None and name[0].lower() != _UNREAD
        if is_read:
            headers.append(line.rstrip())  # to `http.client` "chunked " is not chunked
    raise http.client.HTTPException(f"got more than {MAX_HEADERS} headers")


def _line(answer: io.BufferedReader) -> bytes:
    """Return a line without its end; to the email parser a lone CR inside would be the end of another one."""
    line = answer.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise http.client.LineTooLong("header line")
    return line.rstrip(b"\r\n").replace(b"\r", b" ")
