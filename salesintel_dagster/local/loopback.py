"""What the stand-in servers share: whole request bodies, whole answers, and uvicorn on 127.0.0.1.

Plain ASGI; no framework. A server listens before it says so: the one line on its standard output,
`listening on 127.0.0.1:PORT`, means that a connection made now is answered.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

HOST = "127.0.0.1"
BACKLOG = 2048
"""Connections that wait while one worker is busy: more than the largest concurrency setting, with room."""
GRACEFUL_SECONDS = 1
"""A server that is told to stop waits this long for open answers: a `slow` one would hold it for ever."""
READY = re.compile(r"listening on 127\.0\.0\.1:(\d+)")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """Return the whole request body, or None where it is longer than `max_bytes` or the client went away."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def start_answer(send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send the status line and the headers, as they are given: a fault may lie in them."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send one whole answer with its length."""
    await start_answer(send, status, {"content-length": str(len(body)), **headers})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
    """Send `content` as JSON; numpy arrays are written as lists of numbers."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    await answer(send, status, body, {"content-type": "application/json", **(headers or {})})


def header(scope: Scope, name: str) -> str | None:
    """Return a request header's value, or None."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)


def serve(app: App, port: int) -> None:
    """Serve `app` on 127.0.0.1 until SIGINT or SIGTERM; port 0 takes a free one. Raises OSError for a taken port."""
    import uvicorn  # noqa: PLC0415 - in the [local] extra only; what needs no server imports without it

    with socket.create_server((HOST, port), backlog=BACKLOG) as listener:
        sys.stdout.write(f"listening on {HOST}:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])
