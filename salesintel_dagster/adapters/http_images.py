"""Images over HTTP from hosts we do not trust: one try, one deadline, nothing decoded before its size is known.

Threads and blocking sockets (`PinnedSockets`) under the standard library's HTTP parser: every byte, of head and body,
passes one deadline and one limit. Retries and concurrency are the flow's. No error text holds more of a URL than
its host.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from http import HTTPStatus
from typing import NoReturn

from PIL import Image

from salesintel_dagster.adapters.bounded_reader import BoundedReader, Connection, TooManyBytes
from salesintel_dagster.adapters.bounded_response import BoundedResponse
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import ImageFailure, ImageRefused, ImageTransient
from salesintel_dagster.domain.image_urls import ImageUrl, parse_image_url, redirected
from salesintel_dagster.domain.images import MAX_SIDE_PIXELS, ImageHeader, for_decoding, is_whole, read_header
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher

MAX_OVERHEAD_BYTES = 256 * 1024
"""Status lines, headers, chunk sizes and trailers beside the image's own bytes: 10 MB of them are 2 s of a core."""
PIECE_BYTES = 16 * 1024
"""After so much of an image it is looked at how much of what came was wrapping."""
SCAN_HEAD_BYTES = 64
"""As much of the pixels as Pillow looks at before it decodes them."""
MAX_DRAINED_BYTES = 16 * 1024
MAX_DRAINED_SECONDS = 0.5
"""A longer error page, or one that is late, is not read to its end: a new connection is cheaper. Some hosts announce
the page of a redirect and never send it."""
USER_AGENT = "salesintel-dagster/0.1 (+image export)"

_PACKED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
"""Content encodings. Object stores also tell `aws-chunked`, `base64` or an empty one of a plain picture."""
_UNRESOLVABLE = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class HttpImageFetcher(ImageFetcher):
    """Downloads and verifies one image at a time per thread; safe to share between threads.

    `allowed_private` are the `host:port` pairs that may lie on private addresses or on unusual ports.
    """

    def __init__(  # noqa: PLR0913 - plain values from the composition root, all by name
        self,
        *,
        max_bytes: int,
        max_pixels: int,
        allowed_private: frozenset[str] = frozenset(),
        max_redirects: int = 3,
        user_agent: str = USER_AGENT,
        sockets: PinnedSockets | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._allowed = allowed_private
        self._max_redirects = max_redirects
        self._user_agent = user_agent
        self._clock = clock
        self._sockets = sockets or PinnedSockets(allowed_private, clock)

    def fetch(self, url: str, deadline_seconds: float) -> FetchedImage:
        """Download and verify one image within a total deadline. Raises ImageTransient, ImageRefused."""
        deadline = self._clock.monotonic() + deadline_seconds
        target = parse_image_url(url, self._allowed)
        return verified_image(self._followed(target, deadline), self._max_pixels)

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._sockets.close()

    def _followed(self, target: ImageUrl, deadline: float) -> bytes:
        for _ in range(self._max_redirects + 1):
            answer = self._answer_of(target, deadline)
            if isinstance(answer, bytes):
                return answer
            target = redirected(target, answer, self._allowed)
        raise ImageRefused(ImageStatus.REFUSED_URL, f"more than {self._max_redirects} redirects")

    def _answer_of(self, target: ImageUrl, deadline: float) -> bytes | str:
        """Return the body, or the Location of a redirect, with every failure translated."""
        try:
            return self._exchange(target, deadline)
        except TooManyBytes:
            raise self._too_large() from None
        except TimeoutError:
            raise ImageTransient(ImageStatus.TIMEOUT, f"{target.host} did not answer in time") from None
        except ssl.SSLCertVerificationError:
            raise ImageRefused(ImageStatus.CONNECTION_ERROR, f"{target.host} has no valid certificate") from None
        except socket.gaierror as error:
            kind = ImageRefused if error.errno in _UNRESOLVABLE else ImageTransient
            raise kind(ImageStatus.CONNECTION_ERROR, f"{target.host} does not resolve") from None
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            # The standard library's parsers let go a ValueError at a negative chunk or a boundary of 5,000 digits.
            raise ImageTransient(ImageStatus.CONNECTION_ERROR, f"{target.host}: {type(error).__name__}") from None

    def _exchange(self, target: ImageUrl, deadline: float) -> bytes | str:
        kept = self._sockets.kept(target)
        if kept is not None:
            try:
                return self._request(kept, target, deadline)
            except (ConnectionError, http.client.RemoteDisconnected):
                pass  # the host closed an idle connection as we wrote to it: a new one belongs to the same try
        return self._request(self._sockets.open(target, deadline), target, deadline)

    def _request(self, connection: Connection, target: ImageUrl, deadline: float) -> bytes | str:
        """Send one GET and read its answer; the connection is kept only after an answer read to its end."""
        reader = self._sockets.reader(connection, deadline, MAX_OVERHEAD_BYTES)
        response = BoundedResponse(reader)
        reusable = False
        try:
            self._sockets.send(connection, self._head(target), deadline)
            response.begin()
            try:
                taken = self._taken(response, target, reader)
            except ImageFailure:
                reusable = self._is_finished(response, reader)
                raise
            reusable = self._is_finished(response, reader)
            return taken
        finally:
            response.close()
            if reusable:
                self._sockets.keep(target, connection)
            else:
                connection.close()

    def _head(self, target: ImageUrl) -> bytes:
        lines = (
            f"GET {target.target} HTTP/1.1",
            f"Host: {target.host_header}",
            f"User-Agent: {self._user_agent}",
            "Accept: image/jpeg, image/png, */*;q=0.1",
            "Accept-Encoding: identity",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _taken(self, response: BoundedResponse, target: ImageUrl, reader: BoundedReader) -> bytes | str:
        if (location := response.redirect) is not None:
            return location
        if response.status != HTTPStatus.OK:
            raise_status(response.status, target.host, response.retry_after(self._clock.now()))
        if not _PACKED.isdisjoint(response.headers.get("Content-Encoding", "").lower().replace(",", " ").split()):
            raise ImageRefused(ImageStatus.NOT_AN_IMAGE, f"{target.host} sent a content encoding nobody asked for")
        return self._body(response, reader)

    def _body(self, response: BoundedResponse, reader: BoundedReader) -> bytes:
        if response.length is not None:
            return self._declared_body(response, reader, response.length)
        body = bytearray()
        while piece := response.read(min(PIECE_BYTES, self._max_bytes + 1 - len(body))):
            reader.widen(len(piece))
            body += piece
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _declared_body(self, response: BoundedResponse, reader: BoundedReader, declared: int) -> bytes:
        """Read it in one go: nothing is wrapped around its parts."""
        if declared > self._max_bytes:
            raise self._too_large()
        reader.widen(declared)
        body = response.read(declared)
        if len(body) < declared:
            raise ConnectionResetError("the body ended before its length")
        return body

    def _is_finished(self, response: BoundedResponse, reader: BoundedReader) -> bool:
        """Tell whether the connection may serve another request, reading the rest of a short error page for it."""
        if response.will_close:
            return False
        if not response.isclosed() and response.length is not None and response.length <= MAX_DRAINED_BYTES:
            reader.end_by(self._clock.monotonic() + MAX_DRAINED_SECONDS)
            try:
                response.read()
            except (OSError, TooManyBytes, http.client.HTTPException, ValueError):
                return False
        return response.isclosed()

    def _too_large(self) -> ImageRefused:
        return ImageRefused(ImageStatus.TOO_LARGE, f"more than {self._max_bytes} bytes")


def verified_image(data: bytes, max_pixels: int) -> FetchedImage:
    """Return the image if its bytes are one whole JPEG or PNG of at most `max_pixels`. Raises ImageRefused.

    Pillow reads the header a second time (0.02 ms): an image whose size two readers tell differently is refused,
    because the pixel limit would otherwise hold for one of them only.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels or max(header.width, header.height) > MAX_SIDE_PIXELS:
        reason = f"{header.width}x{header.height} is more than {max_pixels} pixels, or {MAX_SIDE_PIXELS} a side"
        raise ImageRefused(ImageStatus.TOO_MANY_PIXELS, reason)
    _check_second_reading(data[: header.body_at + SCAN_HEAD_BYTES], header)
    if not is_whole(data, header):
        raise ImageRefused(ImageStatus.TRUNCATED, "the image ends before its pixels do")
    return FetchedImage(data, header.kind.value, header.width, header.height)


def _check_second_reading(head: bytes, header: ImageHeader) -> None:
    try:
        with Image.open(io.BytesIO(for_decoding(head)), formats=("JPEG", "PNG")) as image:
            size = image.size
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever its parsers stumble over
        raise ImageRefused(ImageStatus.NOT_AN_IMAGE, f"unreadable header: {type(error).__name__}") from None
    if size != (header.width, header.height):
        raise ImageRefused(ImageStatus.NOT_AN_IMAGE, "the header tells two sizes")


def raise_status(status: int, host: str, retry_after_seconds: float | None) -> NoReturn:
    """Translate an HTTP status other than 200 into the failure it means for an image."""
    reason = f"{host} answered {status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ImageTransient(ImageStatus.THROTTLED, reason, retry_after_seconds)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}:
        raise ImageTransient(ImageStatus.HTTP_ERROR, reason, retry_after_seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ImageTransient(ImageStatus.SERVER_ERROR, reason, retry_after_seconds)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise ImageRefused(ImageStatus.GONE, reason)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ImageRefused(ImageStatus.FORBIDDEN, reason)
    raise ImageRefused(ImageStatus.HTTP_ERROR, reason)
