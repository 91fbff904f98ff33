"""How the webserver speaks HTTP: uvicorn's protocols, which bound a request's head over h11, with an end to waiting.

httptools, which uvicorn prefers where it is installed, took 100 MB of headers of one request, before any token. And
uvicorn waits for ever: for a head, for a body, for a handshake it could not parse, for a reader who does not read.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import traceback
from typing import Any

import h11
import h11._readers as h11_readers
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from salesintel_dagster.webserver.guard import App

REQUEST_SECONDS = 20.0
"""A connection on which nothing whole was asked for so long, and nothing is being answered, is closed."""
READ_SECONDS = 60.0
"""A reader that takes nothing for so long of what was written to it is cut off."""
LOOKS = 60
"""In that time. What is unread may grow meanwhile, as where several subscriptions share a websocket: between two looks
less often than the reader takes something."""
SEND_BUFFER_BYTES = 128 * 1024
"""Linux grows it to 4 MB and tells of room once a third is free: who reads 20 KB/s seemed to take nothing."""
MAX_HEAD_BYTES = 64 * 1024
MAX_CONNECTIONS = 400
"""Of the 1,024 files that a process may often have open: gRPC aborts the process that gets no more."""
UNTOLD = frozenset(
    {
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "ASGI callable returned without completing handshake.",
    }
)
"""What uvicorn logs of requests that are refused: whoever reaches the port could fill the disk with it."""
MAX_FRAMES = 20
"""Of each error in a traceback: a question of 1 KB that nests too deep was 200 KB of the log."""
BLANKS = rb"[ \t]*"
ALL_BLANKS = rb"(?<![ \t])" + BLANKS
"""Takes the same, but begins nowhere amid blanks: h11 0.16 tries every share of them around an empty value, and between
a chunk's extension and the end of its line. 60 KB took up to 12 s of the only thread, before any token."""
h11_readers.header_field_re = re.compile(h11_readers.header_field_re.pattern.replace(BLANKS, ALL_BLANKS))
h11_readers.chunk_header_re = re.compile(h11_readers.chunk_header_re.pattern.replace(BLANKS, ALL_BLANKS))
GRACEFUL_SECONDS = 2
"""Open answers and websockets are cut off after this long: a page left open would hold a stop for ever."""


class _ImpatientWriter(asyncio.Protocol):
    """Cuts off who does not read: closing alone waits for the reader, and keeps the answer as long."""

    read_seconds = READ_SECONDS
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be told of every byte that has to wait, not only of those beyond 64 KB."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self.forget()

    def pause_writing(self) -> None:
        """Begin to wait for the reader."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """All was taken."""
        super().resume_writing()
        if self._cut is not None:
            self._cut.cancel()

    def forget(self) -> None:
        """End every timer: it keeps the connection in memory, and all that came by it."""
        if self._cut is not None:
            self._cut.cancel()

    def _wait_for_reader(self, looks: int = LOOKS) -> None:
        unread = self.transport.get_write_buffer_size()
        self._cut = self.loop.call_later(self.read_seconds / LOOKS, self._look_at_reader, unread, looks - 1)

    def _look_at_reader(self, unread: int, looks: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._wait_for_reader()  # slow: Dagster gives an answer in one piece, however large
        elif looks > 0:
            self._wait_for_reader(looks)
        else:
            self.transport.abort()


class ImpatientProtocol(_ImpatientWriter, H11Protocol):
    """Closes a connection whose next request does not arrive whole."""

    request_seconds = REQUEST_SECONDS
    max_connections = MAX_CONNECTIONS
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look, where there is still room."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.transport.abort()
        else:
            self._look_again()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the waiting to the websocket, which nobody told of what is unread by now."""
        super().handle_websocket_upgrade(event)
        self.forget()
        if self.transport.get_write_buffer_size() > 0:
            self.transport.get_protocol().pause_writing()

    def forget(self) -> None:
        """Look no more either."""
        super().forget()
        self._unset_keepalive_if_required()
        if self._next_look is not None:
            self._next_look.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read; where an answer has begun, end it: uvicorn's attempt at two is a traceback."""
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
            return
        self.cycle.disconnected = True
        self.transport.close()

    def _look_again(self) -> None:
        self._next_look = self.loop.call_later(self.request_seconds, self._look, self._progress())

    def _progress(self) -> tuple[object, bool]:
        return self.cycle, self.cycle is not None and self.cycle.response_complete

    def _look(self, seen: tuple[object, bool]) -> None:
        if self.transport.is_closing():
            return
        cycle, answered = self._progress()
        answers = cycle is not None and not answered and not self.cycle.more_body
        if (cycle, answered) == seen and not answers:
            self.transport.close()
        else:
            self._look_again()


class ImpatientWebSocket(_ImpatientWriter, WebSocketsSansIOProtocol):
    """Ends a handshake that the websockets library does not take, as one with an address of 9 KB."""

    def data_received(self, data: bytes) -> None:
        """Send what the library would answer, which uvicorn does not ask for."""
        super().data_received(data)
        if not self.handshake_initiated:  # the first data are the whole head, from h11: no more comes
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def shutdown(self) -> None:
        """Not where the client has closed it and left something unread: uvicorn's second close failed the stop."""
        if not self.transport.is_closing():
            super().shutdown()


def config(app: App, **others: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own
    """Return how `app` is served."""
    made = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws=ImpatientWebSocket,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        server_header=False,
        proxy_headers=False,  # nothing here trusts X-Forwarded-*
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        ws_ping_timeout=None,  # a ping waits behind a large message: its slow reader was closed for not answering
        **others,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_told)  # once it has its level and handlers
    return made


def _is_told(record: logging.LogRecord) -> bool:
    if isinstance(record.exc_info, tuple):
        if record.exc_info[0] is asyncio.CancelledError:
            return False  # by a stop, which says how many it cuts off
        text = "".join(traceback.format_exception(*record.exc_info, limit=-MAX_FRAMES))
        record.exc_text = text.rstrip()  # a formatter takes it for its own
    return record.msg not in UNTOLD
