"""How the webserver speaks HTTP: uvicorn's protocol over h11, which bounds a request's head, with an end to waiting.

httptools, which uvicorn prefers where it is installed, took 100 MB of headers of one request, before any token. And
uvicorn waits for a head, and for a body, for ever: 300 connections that dripped one stayed open.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from salesintel_dagster.webserver.guard import App

REQUEST_SECONDS = 20.0
"""A connection on which nothing whole was asked for so long, and nothing is being answered, is closed."""
MAX_HEAD_BYTES = 64 * 1024
GRACEFUL_SECONDS = 2
"""Open answers and websockets are cut off after this long: a page left open would hold a stop for ever."""


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose next request does not arrive whole."""

    request_seconds = REQUEST_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to look."""
        super().connection_made(transport)
        self._look_again()

    def _look_again(self) -> None:
        self.loop.call_later(self.request_seconds, self._look, self.cycle)

    def _look(self, seen: object) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # ended, or a websocket's by now
        answers = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if self.cycle is seen and not answers:
            self.transport.close()
        else:
            self._look_again()


def config(app: App, **others: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own
    """Return how `app` is served."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        server_header=False,
        proxy_headers=False,  # nothing here trusts X-Forwarded-*
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        **others,
    )
