"""Keepa's product request: one request in, facts per identifier out, with the token level that came along.

A client of our own: the one on PyPI sleeps inside the call and brings pandas (docs/decisions/0012-enrichment.md). This
one asks once, within a deadline and a size, and never waits for tokens: that is the flow's. The key stands in the URL
because Keepa wants it there; no error and no log line holds a URL or what Keepa said without the key taken out.
"""

from __future__ import annotations

import http.client
import ssl
import zlib
from http import HTTPStatus
from typing import NoReturn, cast
from urllib.parse import quote, urlsplit

import orjson

from salesintel_dagster.adapters.bounded_reader import BoundedReader, Connection, TooManyBytes
from salesintel_dagster.adapters.bounded_response import BoundedResponse
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import Answer, LookUp
from salesintel_dagster.domain.enrichment.keepa import MAX_PER_REQUEST, facts_of, products_of, token_level
from salesintel_dagster.domain.enrichment.ports import EnrichmentProvider
from salesintel_dagster.domain.enrichment.product import LookUpKind
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import (
    ImageRefused,
    ProviderRefused,
    ProviderThrottled,
    ProviderTransient,
    ProviderUnusable,
)
from salesintel_dagster.domain.image_urls import DEFAULT_PORTS, ImageUrl
from salesintel_dagster.domain.redaction import Redaction

KEEPA_URL = "https://api.keepa.com"
LOCAL_NAME, KEEPA_NAME = "local-keepa", "keepa"
KEY_SETTING = "SALESINTEL_KEEPA_KEY"
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""100 products without their history are some 2 MB."""
MAX_OVERHEAD_BYTES = 64 * 1024
MAX_TOLD_CHARACTERS = 160
CODE_LIMIT = 5
"""Products of one code that are asked for; each costs a token."""
USER_AGENT = "salesintel-dagster/0.1 (+enrichment)"

_NOT_ALLOWED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


def provider_name(url: str) -> str:
    """Return how rows name the provider at this URL: nobody but Keepa is called `keepa`."""
    return KEEPA_NAME if url == KEEPA_URL else LOCAL_NAME


class KeepaProvider(EnrichmentProvider):
    """Asks for products of one Amazon locale; safe to share between threads. Connections are kept alive."""

    def __init__(  # noqa: PLR0913 - plain values from the composition root, all by name
        self,
        *,
        url: str,
        key: str,
        domain: int,
        max_per_request: int = MAX_PER_REQUEST,
        deadline_seconds: float = 30.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        parts = urlsplit(url)
        self._target = ImageUrl(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], "/")
        self._name = provider_name(url)
        self._key = key
        self._domain = domain
        self._max_per_request = max_per_request
        self._deadline_seconds = deadline_seconds
        self._max_bytes = max_answer_bytes
        self._clock = clock
        self._redact = Redaction((key,))
        local = frozenset({self._target.pair}) if self._name == LOCAL_NAME else frozenset()
        self._sockets = PinnedSockets(local, clock, are_trusted=True)

    @property
    def name(self) -> str:
        """`keepa`, or `local-keepa` for a stand-in."""
        return self._name

    @property
    def max_per_request(self) -> int:
        """Identifiers that one request takes."""
        return self._max_per_request

    def look_up(self, request: LookUp) -> Answer:
        """Ask once. See the port for what is raised."""
        status, body = self._exchanged(request)
        answer = _parsed(body)
        tokens = token_level(answer, self._clock.now())
        if status != HTTPStatus.OK:
            self._refuse(status, answer, tokens)
        products = products_of(answer)
        if products is None:
            raise ProviderTransient(Reason.INVALID, f"no list of products in the answer{self._told(answer)}", tokens)
        return Answer(facts_of(products, request, self._domain), tokens)

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._sockets.close()

    def _exchanged(self, request: LookUp) -> tuple[int, bytes]:
        """Return status and body, with every failure on the way translated."""
        deadline = self._clock.monotonic() + self._deadline_seconds
        head = self._head(request)
        host = self._target.host
        try:
            return self._exchange(head, deadline)
        except TooManyBytes:
            raise ProviderTransient(Reason.INVALID, f"the answer has more than {self._max_bytes} bytes") from None
        except TimeoutError:
            detail = f"no whole answer within {self._deadline_seconds:g} s"
            raise ProviderTransient(Reason.TIMEOUT, detail) from None
        except zlib.error:
            raise ProviderTransient(Reason.INVALID, "the answer is no whole gzip") from None
        except ImageRefused as error:
            raise ProviderUnusable(Reason.UNUSABLE, f"{host}: {error.reason}") from None
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise ProviderTransient(Reason.PROVIDER_DOWN, f"{host}: {type(error).__name__}") from None

    def _exchange(self, head: bytes, deadline: float) -> tuple[int, bytes]:
        kept = self._sockets.kept(self._target)
        if kept is not None:
            reader = self._reader(kept, deadline)
            try:
                return self._request(kept, reader, head, deadline)
            except ConnectionError:
                # No byte: the host closed an idle connection as we wrote to it, and a new one belongs to the same try.
                # With the first byte the request is paid for; a second one is a try of its own, for the flow to make.
                if reader.has_received:
                    raise
        opened = self._sockets.open(self._target, deadline)
        return self._request(opened, self._reader(opened, deadline), head, deadline)

    def _reader(self, connection: Connection, deadline: float) -> BoundedReader:
        return self._sockets.reader(connection, deadline, self._max_bytes + MAX_OVERHEAD_BYTES)

    def _request(
        self, connection: Connection, reader: BoundedReader, head: bytes, deadline: float
    ) -> tuple[int, bytes]:
        response = BoundedResponse(reader)
        reusable = False
        try:
            self._sockets.send(connection, head, deadline)
            response.begin()
            body = self._body(response)
            reusable = response.isclosed() and not response.will_close
            return response.status, body
        finally:
            response.close()
            if reusable:
                self._sockets.keep(self._target, connection)
            else:
                connection.close()

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        declared = response.length
        if declared is not None and declared > self._max_bytes:
            raise TooManyBytes
        body = response.read(self._max_bytes + 1)
        if declared is not None and len(body) < declared:
            raise ConnectionResetError("the body ended before its length")
        if response.headers.get("Content-Encoding", "").strip().lower() == "gzip":
            body = _unzipped(body, self._max_bytes + 1)
        if len(body) > self._max_bytes:
            raise TooManyBytes
        return body

    def _head(self, request: LookUp) -> bytes:
        name = "asin" if request.kind is LookUpKind.ASIN else f"code-limit={CODE_LIMIT}&code"
        listed = ",".join(quote(identifier, safe="") for identifier in request.identifiers)
        query = f"key={quote(self._key, safe='')}&domain={self._domain}&stats=1&history=0&{name}={listed}"
        lines = (
            f"GET /product?{query} HTTP/1.1",
            f"Host: {self._target.host_header}",
            f"User-Agent: {USER_AGENT}",
            "Accept: application/json",
            "Accept-Encoding: gzip",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _refuse(self, status: int, answer: object, tokens: TokenLevel | None) -> NoReturn:
        sentence = f"answered {status}{self._told(answer)}"
        exhausted = status == HTTPStatus.SERVICE_UNAVAILABLE and tokens is not None and tokens.left <= 0
        if status == HTTPStatus.TOO_MANY_REQUESTS or exhausted:
            raise ProviderThrottled(Reason.OUT_OF_TOKENS, sentence, tokens)
        if status in _NOT_ALLOWED:
            raise ProviderUnusable(Reason.UNUSABLE, f"{sentence} (is {KEY_SETTING} right and paid for?)", tokens)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ProviderRefused(Reason.REFUSED, sentence, tokens)
        raise ProviderTransient(Reason.PROVIDER_DOWN, sentence, tokens)

    def _told(self, answer: object) -> str:
        """Say what the answer's error says: bounded, on one line, without the key."""
        error = answer.get("error") if isinstance(answer, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        if not isinstance(message, str):
            return ""
        text = "".join(char if char.isprintable() else " " for char in self._redact(message))
        return f": {text[:MAX_TOLD_CHARACTERS]}"


def _unzipped(body: bytes, most: int) -> bytes:
    """Unpack at most `most` bytes: a bomb is recognised by its first byte too many. Raises zlib.error."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    unpacked = unpacker.decompress(body, most)
    if len(unpacked) < most and not unpacker.eof:
        raise zlib.error("cut off")
    return unpacked


def _parsed(body: bytes) -> object:
    """Return the JSON value, None for what is none: the status is still worth telling."""
    try:
        return cast("object", orjson.loads(body))
    except orjson.JSONDecodeError:
        return None
