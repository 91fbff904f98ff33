"""An image host for measuring: every path is a different JPEG of the same size; latency is a sleep. Own process."""

from __future__ import annotations

import argparse
import asyncio
import io
import random
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from PIL import Image

COMMENT = b"\xff\xfe"


def base_jpeg(size: int) -> bytes:
    """Return a real JPEG of about `size` bytes: noise, scaled until it is large enough."""
    noise = random.Random(7)
    side = 32
    while True:
        image = Image.frombytes("RGB", (side, side), noise.randbytes(side * side * 3))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=75)
        if out.tell() >= size * 0.95:
            return out.getvalue()
        side = int(side * 1.1) + 1


def distinct(base: bytes, path: str) -> bytes:
    """Return the picture with the path in a comment segment: other bytes, same pixels."""
    text = path.encode()
    return base[:2] + COMMENT + (len(text) + 2).to_bytes(2, "big") + text + base[2:]


def application(base: bytes, latency_seconds: float) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application."""

    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401, ARG001 - ASGI
        if latency_seconds:
            await asyncio.sleep(latency_seconds)
        body = distinct(base, scope["path"])
        headers = [(b"content-type", b"image/jpeg"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return serve


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--bytes", type=int, default=100_000)
    given = parser.parse_args()
    app = application(base_jpeg(given.bytes), given.latency_ms / 1000)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False, lifespan="off")
