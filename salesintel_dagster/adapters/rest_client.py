"""GET one page of JSON from an operator's API: a token, one deadline, a bounded body, retries of what may pass.

The token goes to the configured origin and nowhere else: a redirect or a next page elsewhere is refused. Nothing the
API says is repeated in an error, and of the URL only the host.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from decimal import Decimal
from email.message import Message
from http import HTTPStatus
from itertools import count
from typing import NoReturn
from urllib.parse import urljoin, urlsplit

from salesintel_dagster.adapters.bounded_reader import TooManyBytes
from salesintel_dagster.adapters.bounded_response import BoundedResponse
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import (
    ImageRefused,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.image_urls import DEFAULT_PORTS, ImageUrl
from salesintel_dagster.domain.rest_source import RestParameters
from salesintel_dagster.domain.retry import RetryPolicy

USER_AGENT = "salesintel-dagster/0.1 (+sales export)"
MAX_OVERHEAD_BYTES = 256 * 1024
"""Status line, headers and chunk sizes beside the page's own bytes."""
MAX_REDIRECTS = 5
PAGE_RETRY_BASE_SECONDS = 1.0

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_MAX_INTEGER_DIGITS = 300
"""A longer one becomes a Decimal: Python refuses to read integers of more than 4,300 digits at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page: its JSON (numbers with a point are Decimals), and the headers it came with."""

    url: str
    document: object
    headers: Message


class _Again(Exception):
    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class RestClient:
    """Asks one origin. `sockets` and `clock` are a test's to choose."""

    def __init__(
        self, parameters: RestParameters, *, clock: Clock = SYSTEM_CLOCK, sockets: PinnedSockets | None = None
    ) -> None:
        self._parameters = parameters
        self._place = parameters.place
        self._clock = clock
        self._origin = _origin(parameters.url)
        self._sockets = sockets or self._own_sockets()

    def get(self, url: str, deadline: float) -> Answer:
        """Return the page at `url`, following redirects within the origin; `deadline` is on the clock's monotonic.

        Raises SourceUnavailable, SourceRefused, SourceMappingInvalid (the API does not know the request),
        SourceSchemaMismatch (no JSON, or too much of it).
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._with_retries(url, deadline)
            if isinstance(answer, Answer):
                return answer
            url = self.joined(url, answer)
        raise SourceMappingInvalid(f"{self._place}: more than {MAX_REDIRECTS} redirects")

    def joined(self, url: str, to: str) -> str:
        """Return where `to` leads from `url`. Raises SourceRefused for another origin: the token stays here."""
        try:
            joined = urljoin(url, to)
            if _origin(joined) == self._origin and joined.isascii() and joined.isprintable() and " " not in joined:
                return joined
        except ValueError:
            pass
        raise SourceRefused(f"{self._place}: leads to another host, or to no URL; the token goes to this one only")

    def _own_sockets(self) -> PinnedSockets:
        try:
            tls = (
                ssl.create_default_context(cafile=self._parameters.sslrootcert) if self._origin[0] == "https" else None
            )
        except OSError:
            raise SourceRefused(
                f"{self._place}: the file of trusted certificates (sslrootcert) cannot be read"
            ) from None
        pair = self._target(self._parameters.url).pair
        return PinnedSockets(frozenset({pair}), self._clock, are_trusted=True, tls=tls)

    def _with_retries(self, url: str, deadline: float) -> Answer | str:
        began = self._clock.monotonic()
        policy = RetryPolicy(self._parameters.page_retries, PAGE_RETRY_BASE_SECONDS, deadline - began)
        for tries in count(1):
            try:
                return self._asked(url, deadline)
            except _Again as again:
                elapsed = self._clock.monotonic() - began
                wait = policy.wait_seconds(tries, elapsed, self._clock.jitter(), again.retry_after_seconds)
                if wait is None:
                    raise SourceUnavailable(f"{self._place}: {again.reason}, {tries} times") from None
                self._clock.sleep(wait)
        raise AssertionError  # count has no end

    def _asked(self, url: str, deadline: float) -> Answer | str:
        """Return the answer to one try, or the Location of a redirect, with every failure translated."""
        ends_at = min(deadline, self._clock.monotonic() + self._parameters.page_timeout_seconds)
        try:
            return self._exchange(url, ends_at)
        except ImageRefused as error:
            raise SourceRefused(f"{self._place}: {error.reason}") from None
        except TooManyBytes:
            raise self._too_large() from None
        except TimeoutError:
            raise _Again("no answer in time") from None
        except ssl.SSLCertVerificationError:
            raise SourceRefused(f"{self._place}: the server has no valid certificate for this name") from None
        except socket.gaierror:
            raise _Again("the host name is not known") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection failed ({type(error).__name__})") from None

    def _exchange(self, url: str, ends_at: float) -> Answer | str:
        target = self._target(url)
        limit = self._parameters.max_page_bytes + MAX_OVERHEAD_BYTES
        with self._sockets.open(target, ends_at) as connection:
            self._sockets.send(connection, self._head(target), ends_at)
            reader = self._sockets.reader(connection, ends_at, limit)
            response = BoundedResponse(reader)
            try:
                response.begin()
                return self._taken(response, url)
            finally:
                response.close()

    def _head(self, target: ImageUrl) -> bytes:
        lines = (
            f"GET {target.target} HTTP/1.1",
            f"Host: {target.host_header}",
            f"User-Agent: {USER_AGENT}",
            f"Authorization: Bearer {self._parameters.token}",
            "Accept: application/json",
            "Accept-Encoding: identity",
            "Connection: close",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _taken(self, response: BoundedResponse, url: str) -> Answer | str:
        if (location := response.redirect) is not None:
            return location
        if response.status != HTTPStatus.OK:
            self._raise_status(response)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise SourceSchemaMismatch(f"{self._place}: sent a content encoding that nobody asked for")
        body = response.read(self._parameters.max_page_bytes + 1)
        if len(body) > self._parameters.max_page_bytes:
            raise self._too_large()
        if response.length:
            raise ConnectionResetError("the body ended before its length")
        return Answer(url, self._parsed(body), response.headers)

    def _raise_status(self, response: BoundedResponse) -> NoReturn:
        status = response.status
        if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Again(f"answered {status}", response.retry_after(self._clock.now()))
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise SourceRefused(f"{self._place}: refused the token (answered {status})")
        raise SourceMappingInvalid(f"{self._place}: does not know the request (answered {status}); check url")

    def _parsed(self, body: bytes) -> object:
        """Return the JSON. Its error would carry the page, so none is chained."""
        try:
            parsed: object = json.loads(body, parse_float=Decimal, parse_int=_integer, parse_constant=Decimal)
        except (ValueError, ArithmeticError, RecursionError):
            parsed = None
        if parsed is None:
            raise SourceSchemaMismatch(f"{self._place}: a page is not JSON ({len(body)} bytes)")
        return parsed

    def _too_large(self) -> SourceSchemaMismatch:
        return SourceSchemaMismatch(
            f"{self._place}: a page of more than {self._parameters.max_page_bytes} bytes (max_page_bytes)"
        )

    @staticmethod
    def _target(url: str) -> ImageUrl:
        parts = urlsplit(url)
        scheme, host, port = _origin(url)
        return ImageUrl(scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises ValueError for what is no HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _MAX_INTEGER_DIGITS else Decimal(text)
