"""What the image host can have wrong with an answer, by the name that stands in the URL: `/fault/<kind>/...`.

A number may follow a name after a dash: `flaky-500-2`, `429-30`, `slow-5`, `drip-100`, `redirect-4`.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from salesintel_dagster.domain.png import square_png
from salesintel_dagster.local.loopback import Send, answer, start_answer
from salesintel_dagster.local.pictures import draw_product

TOO_LARGE_BYTES = 11 * 1024 * 1024
"""Above the default limit of 10 MiB for one image."""
CHUNK = b"\0" * 65_536
BOMB_SIDE_PIXELS = 50_000
RETRY_AFTER_SECONDS = 2
SLOW_SECONDS = 2
HANG_SECONDS = 3600
DRIP_MILLISECONDS = 50
JPEG = {"content-type": "image/jpeg"}
GIF = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
HTML = b"<!doctype html><title>Not found</title><p>This product is no longer sold.</p>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One asked fault: its numbers, the healthy picture in its place, how often this URL was asked before."""

    numbers: tuple[int, ...]
    picture: bytes
    path: str
    asked_before: int

    def number(self, index: int, default: int) -> int:
        """Return the number at `index` of the URL's kind, or `default`."""
        return self.numbers[index] if index < len(self.numbers) else default


@functools.cache
def example_picture() -> bytes:
    """Return the picture that a fault is built around where the URL names no file."""
    return draw_product("bag", "fault", 0)


def png_bomb(side_pixels: int = BOMB_SIDE_PIXELS) -> bytes:
    """Return a PNG of a few bytes that says it is `side_pixels` high and wide."""
    return square_png(side_pixels, b"\0" * 64)


def jpeg_bomb(side_pixels: int = BOMB_SIDE_PIXELS) -> bytes:
    """Return a picture whose JPEG header says that it is `side_pixels` high and wide."""
    return re.sub(
        rb"(\xff\xc0\0\x11\x08)....",
        lambda found: found[1] + struct.pack(">HH", side_pixels, side_pixels),
        example_picture(),
        count=1,
        flags=re.DOTALL,
    )


async def _flaky(fault: Fault, send: Send) -> None:
    status, times = fault.number(0, 500), fault.number(1, 1)
    if fault.asked_before < times:
        await answer(send, status, b"", {"retry-after": "1"} if status == 429 else {})  # noqa: PLR2004 - HTTP's number
    else:
        await answer(send, 200, fault.picture, JPEG)


async def _slow(fault: Fault, send: Send) -> None:
    await asyncio.sleep(fault.number(0, SLOW_SECONDS))
    await answer(send, 200, fault.picture, JPEG)


async def _hang(_: Fault, send: Send) -> None:
    await asyncio.sleep(HANG_SECONDS)
    await answer(send, 200, b"", JPEG)


async def _drip(fault: Fault, send: Send) -> None:
    await start_answer(send, 200, {**JPEG, "content-length": str(len(fault.picture))})
    for index in range(len(fault.picture)):
        await send({"type": "http.response.body", "body": fault.picture[index : index + 1], "more_body": True})
        await asyncio.sleep(fault.number(0, DRIP_MILLISECONDS) / 1000)
    await send({"type": "http.response.body", "body": b""})


async def _reset(fault: Fault, send: Send) -> None:
    """Promise the whole picture, send half and end: the server closes the connection under the reader."""
    await start_answer(send, 200, {**JPEG, "content-length": str(len(fault.picture))})
    await send({"type": "http.response.body", "body": fault.picture[: len(fault.picture) // 2], "more_body": True})


async def _too_large(_: Fault, send: Send) -> None:
    await _stream(send, TOO_LARGE_BYTES)


async def _endless(_: Fault, send: Send) -> None:
    await _stream(send, math.inf)


async def _stream(send: Send, least_bytes: float) -> None:
    """Stream without a length: a reader that trusts the header learns nothing."""
    await start_answer(send, 200, JPEG)
    chunk, sent = example_picture(), 0
    while sent < least_bytes:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)  # uvicorn's send does not yield once the client is gone: nobody could stop us
        chunk, sent = CHUNK, sent + len(chunk)
    await send({"type": "http.response.body", "body": b""})


async def _gzip_bomb(_: Fault, send: Send) -> None:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join([*(packer.compress(CHUNK) for _ in range(800)), packer.flush()])
    await answer(send, 200, body, {**JPEG, "content-encoding": "gzip"})


async def _redirect(fault: Fault, send: Send) -> None:
    hops = fault.number(0, 1)
    await answer(
        send, 302, b"", {"location": ("/" if hops <= 1 else f"/fault/redirect-{hops - 1}/") + quote(fault.path)}
    )


async def _redirect_loop(fault: Fault, send: Send) -> None:
    await answer(send, 302, b"", {"location": f"/fault/redirect-loop/{quote(fault.path)}"})


async def _redirect_private(_: Fault, send: Send) -> None:
    await answer(send, 302, b"", {"location": "http://169.254.169.254/latest/meta-data/"})


def _body(
    content: Callable[[Fault], bytes], content_type: str = "image/jpeg"
) -> Callable[[Fault, Send], Awaitable[None]]:
    async def give(fault: Fault, send: Send) -> None:
        await answer(send, 200, content(fault), {"content-type": content_type})

    return give


KINDS: dict[str, Callable[[Fault, Send], Awaitable[None]]] = {
    "flaky": _flaky,
    "slow": _slow,
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "too-large": _too_large,
    "endless": _endless,
    "gzip-bomb": _gzip_bomb,
    "redirect-loop": _redirect_loop,
    "redirect-private": _redirect_private,
    "redirect": _redirect,
    "truncated": _body(lambda fault: fault.picture[: len(fault.picture) // 2]),
    "html-as-jpeg": _body(lambda _: HTML),
    "gif": _body(lambda _: GIF, "image/gif"),
    "text": _body(lambda _: b"sold out", "text/plain"),
    "svg": _body(lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "empty": _body(lambda _: b""),
    "one-byte": _body(lambda _: b"\xff"),
    "bomb": _body(lambda _: png_bomb(), "image/png"),
    "jpeg-bomb": _body(lambda _: jpeg_bomb()),
}


def fault_named(kind: str) -> tuple[Callable[[Fault, Send], Awaitable[None]], tuple[int, ...]] | None:
    """Return what `kind` does and the numbers in it, or None where there is no such fault."""
    name, numbers = re.fullmatch(r"(.*?)((?:-\d+)*)", kind, re.DOTALL).groups()  # type: ignore[union-attr]
    found = tuple(int(number[:9]) for number in numbers.split("-") if number)
    if name in KINDS:
        return KINDS[name], found
    if re.fullmatch(r"[45]\d\d", name, re.ASCII):
        return _always(int(name)), found
    return None


def _always(status: int) -> Callable[[Fault, Send], Awaitable[None]]:
    async def give(fault: Fault, send: Send) -> None:
        wait = str(fault.number(0, RETRY_AFTER_SECONDS))
        await answer(send, status, b"", {"retry-after": wait} if status in (429, 503) else {})

    return give
