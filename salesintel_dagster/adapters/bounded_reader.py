"""One answer of a host, read within a deadline and a number of bytes, over TLS or without."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING

from salesintel_dagster.adapters.pieces import Pieces
from salesintel_dagster.adapters.tls_stream import TlsStream
from salesintel_dagster.domain.clock import Clock

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 64 * 1024

Connection = socket.socket | TlsStream


class TooManyBytes(Exception):
    """More came over the wire than the reader takes."""


class BoundedReader(io.RawIOBase):
    """A socket as `http.client.HTTPResponse` reads it: one deadline and one byte limit over head and body together.

    A socket's timeout is no deadline: a host that sends a byte every second would never run into it. So each
    receive gets only what is left of the time. A stranger's answer may not come in countless pieces either.
    """

    def __init__(
        self, source: Connection, deadline: float, clock: Clock, max_bytes: int, *, is_trusted: bool = False
    ) -> None:
        super().__init__()
        self._source = source
        self._deadline = deadline
        self._clock = clock
        self._left = max_bytes
        self._pieces = Pieces(are_trusted=is_trusted)
        self.has_received = False
        """Whether a byte has come."""

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that HTTPResponse asks its socket for."""
        return io.BufferedReader(self, BUFFER_BYTES)

    def readable(self) -> bool:
        """Say yes: only reading makes sense here."""
        return True

    def widen(self, by_bytes: int) -> None:
        """Take so many bytes more: what came so far was what is wanted, and not its wrapping."""
        self._left += by_bytes

    def end_by(self, deadline: float) -> None:
        """Wait no longer than until then for what is still to come."""
        self._deadline = min(self._deadline, deadline)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receive once. Raises TimeoutError at the deadline, TooManyBytes at the limit, OSError."""
        remaining = self._deadline - self._clock.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        self._source.settimeout(remaining)
        received = self._source.recv_into(buffer)
        self._left -= received
        self.has_received |= received > 0
        if self._left < 0:
            raise TooManyBytes
        self._pieces.count(received)
        return received
