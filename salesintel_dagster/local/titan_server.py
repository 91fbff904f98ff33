"""The Titan stand-in: `POST /model/{id}/invoke` as Bedrock's runtime answers it, vectors from the picture's pixels.

It refuses what Titan refuses, with Bedrock's status, error header and words, throttles on request, and gives wrong
answers by script, so that every line of the Titan adapter runs without a cloud account. It keeps counters and nothing
else: no image, no vector. On loopback only; a request from a web page (one with an Origin) is refused.

    GET  /stats    {"requests", "calls", "images", "max_concurrency", "by_status", "faults_waiting"}
                   `calls` are answers with status 200, the ones that Bedrock would charge for
    POST /faults   {"next": ["throttle", "nan", ...], "always": null}: the next answers, then all others
    POST /reset    forget counters and faults
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

import orjson

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.local.descriptor import Floats, hash_vector
from salesintel_dagster.local.loopback import HOST, Receive, Scope, Send, answer, answer_json, header, read_body, serve
from salesintel_dagster.local.titan_faults import FAULTS, Fault, fault_named, wrong_answer
from salesintel_dagster.local.titan_rules import Refusal, check_model, parsed_request, vector_of_pixels

DEFAULT_MODEL_ID = "local-titan-embed-image-v1"
MAX_BODY_BYTES = 40 * 1024 * 1024
"""Titan takes images of up to 25 MB; base64 makes a third more of them."""
INVOKE = re.compile(rb"/model/([^/?]+)/invoke")
BURST_SHARE = 10
"""A quota of N requests a minute lets N / 10 through at once and refills evenly."""
SECONDS_A_MINUTE = 60


@dataclass(slots=True)
class Quota:
    """Requests a minute, as a bucket that refills evenly; None lets everything through."""

    requests_per_minute: int | None
    clock: Clock
    _tokens: float = field(init=False, default=0.0)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Start with a full bucket."""
        self._at = self.clock.monotonic()
        self._tokens = self._burst

    @property
    def _burst(self) -> float:
        return max(1.0, (self.requests_per_minute or 0) / BURST_SHARE)

    def take(self) -> bool:
        """Take one request's worth, or say that there is none."""
        if self.requests_per_minute is None:
            return True
        now = self.clock.monotonic()
        refill = (now - self._at) * self.requests_per_minute / SECONDS_A_MINUTE
        self._tokens, self._at = min(self._burst, self._tokens + refill), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Counters:
    """What the stand-in was asked for. An image counts once however often it is sent."""

    requests: int = 0
    calls: int = 0
    in_flight: int = 0
    max_concurrency: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    images: set[bytes] = field(default_factory=set)


class TitanServer:
    """The ASGI application. `descriptor` is `pixels` (similar pictures are near) or `hash` (cheap, for measuring)."""

    def __init__(
        self,
        *,
        descriptor: str = "pixels",
        latency_seconds: float = 0.0,
        requests_per_minute: int | None = None,
        faults: Iterable[str] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._by_pixels = descriptor == "pixels"
        self._latency_seconds = latency_seconds
        self._quota = Quota(requests_per_minute, clock)
        self._next = deque(fault_named(name) for name in faults)
        self._always: Fault | None = None
        self._counters = Counters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        client = scope.get("client") or ("", 0)
        if client[0] != HOST or header(scope, "origin") is not None:
            await answer_json(send, 403, {"message": "this stand-in answers programs on this machine only"})
            return
        invoked = INVOKE.fullmatch(scope.get("raw_path") or scope["path"].encode())
        if invoked and scope["method"] == "POST":
            await self._counted_invoke(unquote(invoked[1].decode("latin-1")), receive, send)
        else:
            await self._administer(f"{scope['method']} {scope['path']}", receive, send)

    async def _counted_invoke(self, model_id: str, receive: Receive, send: Send) -> None:
        counters = self._counters
        counters.requests += 1
        counters.in_flight += 1
        counters.max_concurrency = max(counters.max_concurrency, counters.in_flight)
        try:
            await self._invoke(model_id, receive, send)
        finally:
            counters.in_flight -= 1

    async def _invoke(self, model_id: str, receive: Receive, send: Send) -> None:
        body = await read_body(receive, MAX_BODY_BYTES)
        try:
            answered = await self._embed(model_id, body)
        except Refusal as refused:
            self._counters.by_status[refused.status] += 1
            kind = {"x-amzn-errortype": f"{refused.name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
            await answer_json(send, refused.status, {"message": refused.message}, kind)
            return
        self._counters.calls += 1
        self._counters.by_status[200] += 1
        await answer(send, 200, answered, {"content-type": "application/json"})

    async def _embed(self, model_id: str, body: bytes | None) -> bytes:
        """Return the answer's body. Raises Refusal."""
        check_model(model_id)
        fault = self._next.popleft() if self._next else self._always
        if fault is not None and fault.error is not None:
            raise Refusal(fault.error)
        if not self._quota.take():
            raise Refusal("throttle")
        image, dimension = parsed_request(body)
        await asyncio.sleep(self._latency_seconds + (fault.delay_seconds if fault is not None else 0.0))
        vector = await self._vector(image, dimension)
        self._counters.images.add(hashlib.sha256(image).digest())
        if fault is not None and fault.wrong is not None:
            return wrong_answer(fault.wrong, vector)
        content = {"embedding": vector, "inputTextTokenCount": 0, "message": None}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    async def _vector(self, image: bytes, dimension: int) -> Floats:
        if self._by_pixels:
            return await asyncio.to_thread(vector_of_pixels, image, dimension)
        return hash_vector(image, dimension)

    async def _administer(self, call: str, receive: Receive, send: Send) -> None:
        body = await read_body(receive, MAX_BODY_BYTES)
        if call == "POST /faults":
            await self._take_faults(body, send)
            return
        if call == "POST /reset":
            self._counters, self._next, self._always = Counters(), deque(), None
        elif call != "GET /stats":
            await answer_json(send, 404, {"message": "no such call"}, {"x-amzn-errortype": "UnknownOperationException"})
            return
        counters = self._counters
        told = {
            "requests": counters.requests,
            "calls": counters.calls,
            "images": len(counters.images),
            "max_concurrency": counters.max_concurrency,
            "by_status": {str(status): n for status, n in sorted(counters.by_status.items())},
            "faults_waiting": len(self._next),
        }
        await answer_json(send, 200, told)

    async def _take_faults(self, body: bytes | None, send: Send) -> None:
        try:
            asked = orjson.loads(body or b"")
            coming = [fault_named(name) for name in asked.get("next", [])]
            always = fault_named(asked["always"]) if asked.get("always") else None
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            await answer_json(send, 400, {"message": f'expected {{"next": [...], "always": ...}} of {sorted(FAULTS)}'})
            return
        self._next.extend(coming)
        self._always = always
        await answer_json(send, 200, {"faults_waiting": len(self._next)})


def main() -> None:
    """Serve the stand-in on 127.0.0.1 until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m salesintel_dagster.local.titan_server", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--descriptor", choices=("pixels", "hash"), default="pixels")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--rpm", type=int, default=None, help="requests a minute before 429; unlimited without it")
    options = parser.parse_args()
    app = TitanServer(
        descriptor=options.descriptor, latency_seconds=options.latency_ms / 1000, requests_per_minute=options.rpm
    )
    serve(app, options.port)


if __name__ == "__main__":
    main()
