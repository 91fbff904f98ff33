"""TLS over a socket, fed by hand: each receive from the network is one step that looks at the clock.

`ssl.SSLSocket` leaves the records to OpenSSL, which reads on as long as there come more that hold no data. Of 8 MB of
session tickets one recv with a timeout of 0.05 s took 1.4 s, and a host that goes on sending them holds it for ever.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Self, TypeVar, cast

from salesintel_dagster.adapters.pieces import Pieces
from salesintel_dagster.domain.clock import Clock

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

RECEIVE_BYTES = 32 * 1024
MAX_HANDSHAKE_BYTES = 32 * 1024
"""A chain of certificates has some 10 KiB, and OpenSSL works as long on each KiB of it as a host likes: 0.25 s."""
MAX_BYTES_WITHOUT_DATA = 128 * 1024
"""Over a whole connection. One record holds 16 KiB at most, tickets less."""
DATA_BYTES_A_WRAPPING_BYTE = 8
"""So many bytes of data allow one more without: beside 10 MB are 48,000 key updates, less than a second of a core."""

Given = TypeVar("Given")


class TlsStream:
    """A client's TLS connection with the part of a socket's methods that a request needs; a context that closes it."""

    def __init__(
        self, plain: socket.socket, context: ssl.SSLContext, host: str, clock: Clock, *, is_trusted: bool = False
    ) -> None:
        """Shake hands within the timeout of `plain`. Raises OSError, of it ssl.SSLError and TimeoutError."""
        self._is_trusted = is_trusted
        self._pieces = Pieces(are_trusted=is_trusted)
        self._plain = plain
        self._clock = clock
        self._timeout = plain.gettimeout() or 0.0
        self._without_data, self._data, self._greeted = 0, 0, False
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)
        self._done(self._tls.do_handshake)
        self._greeted = True

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def holds_bytes(self) -> bool:
        """Whether something came that nobody has read."""
        return bool(self._received.pending or self._tls.pending())

    def settimeout(self, seconds: float) -> None:
        """Give each following call so much time in all."""
        self._timeout = seconds

    def recv_into(self, buffer: WriteableBuffer) -> int:
        """Receive once; 0 at the end. Raises OSError, TimeoutError."""
        view = memoryview(buffer)
        try:
            given = self._done(lambda: cast("int", self._tls.read(len(view), view)))
        except ssl.SSLEOFError:
            return 0  # without a goodbye, as SSLSocket takes it: a length or the picture tells what is whole
        self._data += given
        self._without_data -= given
        return given

    def sendall(self, data: ReadableBuffer) -> None:
        """Send all of it. Raises OSError, TimeoutError."""
        self._done(lambda: self._tls.write(data))

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._plain.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._plain.close()

    def _done(self, step: Callable[[], Given]) -> Given:
        ends_at = self._clock.monotonic() + self._timeout
        while True:
            try:
                given = step()
            except ssl.SSLWantReadError:
                self._send(ends_at)
                self._without_data += self._receive(ends_at)
                if self._without_data > self._most_without_data:
                    raise ConnectionAbortedError("TLS without data") from None
            else:
                self._send(ends_at)
                return given

    @property
    def _most_without_data(self) -> float:
        if self._is_trusted:
            return inf
        if not self._greeted:
            return MAX_HANDSHAKE_BYTES
        return MAX_BYTES_WITHOUT_DATA + self._data // DATA_BYTES_A_WRAPPING_BYTE

    def _send(self, ends_at: float) -> None:
        if self._to_send.pending:
            self._plain.settimeout(self._left(ends_at))
            self._plain.sendall(self._to_send.read())

    def _receive(self, ends_at: float) -> int:
        self._plain.settimeout(self._left(ends_at))
        came = self._plain.recv(RECEIVE_BYTES)
        self._pieces.count(len(came))
        if came:
            self._received.write(came)
        else:
            self._received.write_eof()
        return len(came)

    def _left(self, ends_at: float) -> float:
        left = ends_at - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left
