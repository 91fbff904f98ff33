"""The provider's stand-in: `GET /product` as Keepa answers it, products made up from their ASIN, always the same ones.

It speaks Keepa's wire format (tokens on every answer, gzip where asked for) and gives wrong answers by script. Whoever
reads from here names the provider `local-keepa`, by its address (`adapters.keepa.provider_name`): nothing that it
makes up can pass for Keepa's. On loopback only; a request from a web page is refused. It never looks at the key.

    GET  /product  key, domain, asin= or code= (up to 100, by commas)
    GET  /token    the token level alone, free
    GET  /stats    {"requests", "answered", "products", "asked_twice", "max_concurrency", "by_status", "faults_waiting"}
    POST /faults   {"next": ["throttle", "slow", ...], "always": null}: the next product requests, then all others
    POST /reset    forget counters and faults, fill the bucket; {"tokens": n} leaves n in it

ASINs whose second to fifth letters are NONE, BADP or BADT are unknown, have a negative price, a title that is no text.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import orjson

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.enrichment.keepa import MAX_PER_REQUEST
from salesintel_dagster.local.keepa_products import asins_of_code, product
from salesintel_dagster.local.loopback import (
    HOST,
    Receive,
    Scope,
    Send,
    answer,
    answer_json,
    header,
    read_body,
    serve,
    start_answer,
)

MAX_BODY_BYTES = 64 * 1024
TOKENS_A_MINUTE = 1_200
MINUTES_KEPT = 60
SECONDS_A_MINUTE = 60.0
SLOW_SECONDS = 2.0
"""Longer than the deadlines that tests set, short enough to wait for."""
HALF_BYTES = 1024
"""Promised; half of it comes, and the connection ends."""
HUGE_BYTES = 20 * 1024 * 1024
STATUSES = {"throttle": 429, "down": 500, "unavailable": 503, "rejected": 400, "payment": 402, "forbidden": 403}
BODIES = {
    "not-json": b"<html>busy</html>",
    "cut-json": b'{"products": [{"asin": "B0',
    "no-products": b'{"tokensLeft": 1, "refillIn": 1000, "refillRate": 5}',
    "products-not-a-list": b'{"products": {"asin": 1}}',
    "deep": b'{"products": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge": b" " * HUGE_BYTES,
    "echo-key": b"",
}
FAULTS = frozenset({*STATUSES, *BODIES, "slow", "missing", "shuffled", "not-gzip", "reset", "half"})


@dataclass(slots=True)
class Bucket:
    """Tokens that refill evenly; a request is taken while there is one and may leave less than none, as Keepa's."""

    per_minute: float
    clock: Clock
    tokens: float = field(init=False, default=0.0)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Start full."""
        self.fill(None)

    def fill(self, tokens: float | None) -> None:
        """Have so many tokens, or as many as it holds."""
        self.tokens = self.per_minute * MINUTES_KEPT if tokens is None else tokens
        self._at = self.clock.monotonic()

    def take(self, cost: int) -> bool:
        """Take a request's cost, or say that there is no token."""
        now = self.clock.monotonic()
        refill = (now - self._at) * self.per_minute / SECONDS_A_MINUTE
        self.tokens = min(max(self.tokens, self.per_minute * MINUTES_KEPT), self.tokens + refill)
        self._at = now
        if cost and self.tokens < 1:
            return False
        self.tokens -= cost
        return True

    def told(self) -> dict[str, int]:
        """Return what each answer says of it."""
        missing_seconds = SECONDS_A_MINUTE / self.per_minute if self.per_minute else SECONDS_A_MINUTE
        refill_in = int(1000 * missing_seconds * (1 - self.tokens % 1))
        return {"tokensLeft": int(self.tokens // 1), "refillIn": refill_in, "refillRate": int(self.per_minute)}


@dataclass(slots=True)
class Counters:
    """What was asked for. `asked` counts how often each ASIN or code was paid for."""

    requests: int = 0
    in_flight: int = 0
    max_concurrency: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)


class KeepaServer:
    """The ASGI application."""

    def __init__(
        self, *, latency_seconds: float = 0.0, tokens_a_minute: float = TOKENS_A_MINUTE, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._latency_seconds = latency_seconds
        self._bucket = Bucket(tokens_a_minute, clock)
        self._counters = Counters()
        self._next: deque[str] = deque()
        self._always: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        client = scope.get("client") or ("", 0)
        if client[0] != HOST or header(scope, "origin") is not None:
            await answer_json(send, 403, {"error": {"message": "this stand-in answers programs on this machine only"}})
            return
        call = f"{scope['method']} {scope['path']}"
        if call == "GET /product":
            await self._counted(scope, send)
        else:
            await self._administer(call, await read_body(receive, MAX_BODY_BYTES), send)

    async def _counted(self, scope: Scope, send: Send) -> None:
        counters = self._counters
        counters.requests += 1
        counters.in_flight += 1
        counters.max_concurrency = max(counters.max_concurrency, counters.in_flight)
        try:
            await self._products(scope, send)
        finally:
            counters.in_flight -= 1

    async def _products(self, scope: Scope, send: Send) -> None:
        query = {name: values[-1] for name, values in parse_qs(scope.get("query_string", b"").decode()).items()}
        asked = [word for word in (query.get("asin") or query.get("code") or "").split(",") if word]
        fault = self._next.popleft() if self._next else self._always
        await asyncio.sleep(self._latency_seconds + (SLOW_SECONDS if fault == "slow" else 0.0))
        if fault in BODIES:
            body = BODIES[fault] or orjson.dumps({"error": {"message": f"bad key {query.get('key')}"}})
            await answer(send, 200, body, {"content-type": "application/json"})
        elif fault == "not-gzip":
            await answer(send, 200, b"plain", {"content-type": "application/json", "content-encoding": "gzip"})
        elif fault == "reset":
            raise ConnectionResetError("a fault by script")
        elif not asked or len(asked) > MAX_PER_REQUEST or not query.get("key") or not query.get("domain"):
            await self._told(scope, send, 400, "invalidParameter")
        elif fault in STATUSES:
            await self._told(scope, send, STATUSES[fault], fault)
        elif not self._bucket.take(len(asked)):
            await self._told(scope, send, 429, "notEnoughTokens")
        else:
            self._counters.asked.update(asked)
            found = [product(asin, code) for asin, code in self._wanted(query, asked)]
            products = [one for one in found if one is not None]
            if fault == "missing":
                products = products[1:]
            elif fault == "shuffled":
                products.reverse()
            elif fault == "half":
                await start_answer(send, 200, {"content-length": str(HALF_BYTES)})
                await send({"type": "http.response.body", "body": b" " * (HALF_BYTES // 2), "more_body": True})
                raise ConnectionResetError("a fault by script")
            await self._told(scope, send, 200, None, {"products": products, "tokensConsumed": len(asked)})

    @staticmethod
    def _wanted(query: dict[str, str], asked: list[str]) -> list[tuple[str, str | None]]:
        if query.get("asin"):
            return [(asin, None) for asin in asked]
        return [(asin, code) for code in asked for asin in asins_of_code(code)]

    async def _told(
        self, scope: Scope, send: Send, status: int, error: str | None, more: dict[str, object] | None = None
    ) -> None:
        self._counters.by_status[status] += 1
        content = {"timestamp": 0, "processingTimeInMs": 1, **self._bucket.told(), **(more or {})}
        if error is not None:
            content["error"] = {"type": error, "message": f"{error} (a stand-in's answer)"}
        body, headers = orjson.dumps(content), {"content-type": "application/json"}
        if "gzip" in (header(scope, "accept-encoding") or ""):
            body, headers = gzip.compress(body, 1), {**headers, "content-encoding": "gzip"}
        await answer(send, status, body, headers)

    async def _administer(self, call: str, body: bytes | None, send: Send) -> None:
        if call == "POST /faults":
            await self._take_faults(body, send)
        elif call == "POST /reset":
            self._counters, self._next, self._always = Counters(), deque(), None
            asked = orjson.loads(body) if body else {}
            self._bucket.fill(asked.get("tokens"))
            await self._tell(send)
        elif call in {"GET /stats", "GET /token"}:
            self._bucket.take(0)
            await self._tell(send)
        else:
            await answer_json(send, 404, {"error": {"message": "no such call"}})

    async def _tell(self, send: Send) -> None:
        counters = self._counters
        told: dict[str, object] = {
            "requests": counters.requests,
            "answered": counters.by_status[200],
            "products": len(counters.asked),
            "asked_twice": sorted(name for name, times in counters.asked.items() if times > 1),
            "max_concurrency": counters.max_concurrency,
            "by_status": {str(status): n for status, n in sorted(counters.by_status.items())},
            "faults_waiting": len(self._next),
        }
        await answer_json(send, 200, told | self._bucket.told())

    async def _take_faults(self, body: bytes | None, send: Send) -> None:
        try:
            asked = orjson.loads(body or b"")
            coming, always = list(asked.get("next", [])), asked.get("always")
            known = FAULTS.issuperset({*coming, *([always] if always else [])})
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            known = False
        if not known:
            await answer_json(send, 400, {"error": {"message": f"expected faults of {sorted(FAULTS)}"}})
            return
        self._next.extend(coming)
        self._always = always
        await self._tell(send)


def main() -> None:
    """Serve the stand-in on 127.0.0.1 until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m salesintel_dagster.local.keepa_server", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--tokens-a-minute", type=float, default=TOKENS_A_MINUTE)
    options = parser.parse_args()
    serve(KeepaServer(latency_seconds=options.latency_ms / 1000, tokens_a_minute=options.tokens_a_minute), options.port)


if __name__ == "__main__":
    main()
