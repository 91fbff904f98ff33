"""`python -m salesintel_dagster.local.emulator_app --port N`: ministack behind a guard, state kept while it runs.

The guard: loopback only; a Host that is not ours (DNS rebinding), an Origin (a web page) and the emulator's own
administration by POST are refused. The keeper: ministack saves its state at a clean stop only, so we save the
services that were written to when they fall idle, and at least every KEEP_SHARE-th of the time while they do not.
S3 objects are on disk before the answer; other writes of the last moment (see `Keeper`) die with a SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from ministack import app as ministack
from ministack.core import persistence

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.ending import end_for_certain
from salesintel_dagster.local.ports import LOOPBACK

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

IDLE_SECONDS = 0.2
KEEP_SHARE = 10
"""Saving takes at most a tenth of the time: after a save of 0.1 s the next waits 1 s, however busy it is."""
UNSAVED = Path(persistence.STATE_DIR) / "unsaved"
"""There while a write has been answered and not saved: a SIGKILL now forgets what AWS would not."""
QUEUES = "sqs"
"""Saved last: a SIGKILL in the middle of a save may bring messages back, and lets none be gone before its effects."""
READS = re.compile(rb"[.](Get|BatchGet|Describe|List|Query|Scan|Select|TransactGet|Head)[A-Za-z]*$")
SCOPE = re.compile(rb"Credential=[^/]+/\d+/[^/]+/([a-z0-9-]+)/aws4_request")
MODULES_WRITTEN = {
    b"dynamodb": {"dynamodb"},
    b"glue": {"glue"},
    b"kms": {"kms"},
    b"logs": {"cloudwatch_logs"},
    b"monitoring": {"cloudwatch"},
    b"s3": {"s3"},
    b"s3tables": {"s3tables", "glue"},
    b"secretsmanager": {"secretsmanager"},
    b"sqs": {"sqs"},
    b"ssm": {"ssm"},
}
"""Signing name -> state files that its writes touch; a name that is not here may touch any (events to queues...)."""


class Keeper:
    """Saves what was written: after IDLE_SECONDS without a write, or when the last save is long enough ago."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._written: set[str] = set()
        self._written_at = self._saved_at = clock.monotonic()
        self._took_seconds = 0.0

    def note(self, headers: dict[bytes, bytes], method: str) -> None:
        """Take note of a request that is about to be answered."""
        if method in ("GET", "HEAD") or READS.search(headers.get(b"x-amz-target", b"")):
            return
        scope = SCOPE.search(headers.get(b"authorization", b""))
        everything = set(ministack._build_persistence_save_dict())  # noqa: SLF001 - the version is pinned
        self._written |= MODULES_WRITTEN.get(scope[1] if scope else b"", everything)
        self._written_at = self._clock.monotonic()
        if persistence.PERSIST_STATE:
            UNSAVED.parent.mkdir(parents=True, exist_ok=True)
            UNSAVED.touch()

    async def run(self) -> None:
        """Save for ever. Runs in the emulator's own loop: between two requests every service's state is whole."""
        while True:
            await asyncio.sleep(IDLE_SECONDS / 2)
            now = self._clock.monotonic()
            idle = now - self._written_at >= IDLE_SECONDS
            rested = now - self._saved_at >= max(1.0, KEEP_SHARE * self._took_seconds)
            if self._written and (rested or (idle and self._took_seconds < IDLE_SECONDS)):
                self._save()

    def _save(self) -> None:
        states = ministack._build_persistence_save_dict()  # noqa: SLF001 - the version is pinned
        order = sorted(self._written, key=lambda name: (name == QUEUES, name))
        chosen = {name: states[name] for name in order if name in states}
        self._written = set()
        began = self._clock.monotonic()
        persistence.save_all(chosen)
        UNSAVED.unlink(missing_ok=True)
        self._saved_at = self._clock.monotonic()
        self._took_seconds = self._saved_at - began


def guarded(app: App, port: int, keeper: Keeper) -> App:
    """Wrap the emulator: refuse what no SDK sends, tell the keeper what was done."""
    hosts = {f"{name}:{port}".encode() for name in (LOOPBACK, "localhost")}

    async def guard(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(app, keeper, scope, receive, send)
            return
        headers = dict(scope["headers"])
        method = scope.get("method", "")
        administration = scope["path"].startswith(("/_ministack", "/_localstack")) and method != "GET"
        strange = scope["type"] != "http" or headers.get(b"host") not in hosts
        if strange or administration or b"origin" in headers or method == "OPTIONS":
            await _refuse(scope, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                keeper.note(headers, method)  # before the client can act on it
            await send(message)

        await app(scope, receive, answer)

    return guard


async def _lifespan(app: App, keeper: Keeper, scope: Message, receive: Receive, send: Send) -> None:
    keeping = asyncio.create_task(keeper.run()) if persistence.PERSIST_STATE else None
    try:
        await app(scope, receive, send)
    finally:
        if keeping is not None:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused: not a request of an AWS SDK on this machine\n"})


class _Server(uvicorn.Server):
    """Ends for certain: a stop that hangs is cut off, so that no emulator outlives its supervisor."""

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        end_for_certain()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until SIGTERM or SIGINT; the state is saved before the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = uvicorn.Config(
        guarded(ministack.app, port, Keeper()),
        host=LOOPBACK,
        port=port,
        access_log=False,
        log_level="warning",
        lifespan="on",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
    _Server(config).run()


if __name__ == "__main__":
    main()
