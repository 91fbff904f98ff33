"""The image host of the embedded world: the files below one folder, and faults on request by URL.

On loopback only. Files are read for every request and never leave the folder, whatever the path says.

    GET  /products/ab.jpg              the file, below the folder
    GET  /fault/<kind>/products/ab.jpg the same picture with something wrong (kinds: image_faults.py)
    GET  /stats                        {"requests", "bytes_sent", "max_concurrency", "max_concurrency_by_host", "paths"}
    POST /reset                        counters, and how often a flaky URL was asked, back to zero
"""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from salesintel_dagster.local.image_faults import Fault, example_picture, fault_named
from salesintel_dagster.local.loopback import HOST, Message, Receive, Scope, Send, answer, answer_json, header, serve

FAULT_PREFIX = "/fault/"


@dataclass(slots=True)
class Gauge:
    """How many at once, now and at most."""

    now: int = 0
    most: int = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Count one more for as long as the block runs."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1


@dataclass(slots=True)
class Counters:
    """What this process was asked for and what it sent; body bytes, as handed to the socket."""

    paths: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    at_once: Gauge = field(default_factory=Gauge)
    at_once_by_host: dict[str, Gauge] = field(default_factory=dict)


class ImageServer:
    """The ASGI application over one folder."""

    def __init__(self, folder: Path, *, latency_seconds: float = 0.0) -> None:
        self._folder = folder.resolve()
        self._latency_seconds = latency_seconds
        self._counters = Counters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = (scope["method"], scope["path"])
        if call == ("GET", "/stats"):
            await answer_json(send, 200, self._told())
        elif call == ("POST", "/reset") and header(scope, "origin") is None:
            self._counters = Counters()
            await answer_json(send, 200, self._told())
        elif scope["method"] not in ("GET", "HEAD") or (scope.get("client") or ("",))[0] != HOST:
            await answer(send, 405, b"", {"allow": "GET, HEAD"})
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        counters = self._counters
        path = scope["path"]
        by_host = counters.at_once_by_host.setdefault(header(scope, "host") or "", Gauge())
        asked_before = counters.paths[path]
        counters.paths[path] += 1

        async def count(message: Message) -> None:
            await send(message)
            counters.bytes_sent += len(message.get("body", b""))

        with counters.at_once.held(), by_host.held():
            await asyncio.sleep(self._latency_seconds)
            if path.startswith(FAULT_PREFIX):
                await while_connected(self._fault(path.removeprefix(FAULT_PREFIX), asked_before, count), receive)
            else:
                await self._file(path, count)

    async def _file(self, path: str, send: Send) -> None:
        content = self._read(path)
        if content is None:
            await answer(send, 404, b"", {})
            return
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        await answer(send, 200, content, {"content-type": kind})

    async def _fault(self, asked: str, asked_before: int, send: Send) -> None:
        kind, _, path = asked.partition("/")
        found = fault_named(kind)
        if found is None:
            await answer(send, 404, f"no fault is called {kind}".encode(), {"content-type": "text/plain"})
            return
        give, numbers = found
        picture = self._read(f"/{path}") or example_picture()
        await give(Fault(numbers, picture, path, asked_before), send)

    def _read(self, path: str) -> bytes | None:
        """Return the file's bytes, or None for what is missing or lies outside the folder (also by a link)."""
        try:
            file = (self._folder / path.lstrip("/")).resolve()
            return file.read_bytes() if file.is_relative_to(self._folder) and file.is_file() else None
        except (OSError, ValueError):
            return None

    def _told(self) -> dict[str, object]:
        counters = self._counters
        return {
            "requests": counters.paths.total(),
            "bytes_sent": counters.bytes_sent,
            "max_concurrency": counters.at_once.most,
            "max_concurrency_by_host": {host: gauge.most for host, gauge in counters.at_once_by_host.items()},
            "paths": dict(counters.paths),
        }


async def while_connected(answering: Coroutine[None, None, None], receive: Receive) -> None:
    """Answer until done or until the client hangs up: a drip nobody reads must not go on, nor be counted as sent."""
    answer_task = asyncio.create_task(answering)
    gone_task = asyncio.create_task(_disconnected(receive))
    done, waiting = await asyncio.wait({answer_task, gone_task}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.wait({answer_task, gone_task})
    if answer_task in done:
        answer_task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def main() -> None:
    """Serve a folder's pictures on 127.0.0.1 until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m salesintel_dagster.local.image_server", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"--folder {options.folder}: no such folder")
    serve(ImageServer(options.folder, latency_seconds=options.latency_ms / 1000), options.port)


if __name__ == "__main__":
    main()
