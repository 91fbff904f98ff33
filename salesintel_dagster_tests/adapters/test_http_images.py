"""The image fetcher against a hostile server: real sockets on loopback, every answer written byte by byte."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import which

import pytest

from salesintel_dagster.adapters.bounded_response import retry_after_seconds
from salesintel_dagster.adapters.http_images import HttpImageFetcher, verified_image
from salesintel_dagster.adapters.pinned_sockets import MAX_IDLE_SOCKETS, PinnedSockets, system_connect
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import ImageFailure, ImageRefused, ImageTransient
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.hostile_server import Answer, HostileServer, drip, response
from salesintel_dagster_tests.fakes.images import ScriptedImages, picture

DEADLINE = 1.0
ON_TIME = 1.5
MAX_BYTES = 200_000


@pytest.fixture
def server() -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.close()


@pytest.fixture
def fetcher(server: HostileServer) -> Iterator[HttpImageFetcher]:
    made = make_fetcher(server)
    yield made
    made.close()


def make_fetcher(server: HostileServer, *pairs: str, sockets: PinnedSockets | None = None) -> HttpImageFetcher:
    return HttpImageFetcher(
        max_bytes=MAX_BYTES,
        max_pixels=1_000_000,
        allowed_private=frozenset({server.pair, *pairs}),
        sockets=sockets,
    )


def failure(fetcher: HttpImageFetcher, url: str) -> ImageFailure:
    started = time.monotonic()
    with pytest.raises(ImageFailure) as failed:
        fetcher.fetch(url, DEADLINE)
    assert time.monotonic() - started < ON_TIME
    assert "canary" not in str(failed.value)
    return failed.value


def test_an_image_is_what_its_bytes_say_whatever_its_content_type(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    png = picture(1, "PNG")
    image = fetcher.fetch(server.url("/a.jpg?x=1", response(png)), DEADLINE)
    assert (image.data, image.content_type, image.width, image.height) == (png, "image/png", 16, 12)
    head = server.requests[0].decode()
    assert head.startswith("GET /a.jpg?x=1 HTTP/1.1\r\nHost: " + server.pair + "\r\n")
    assert "Accept-Encoding: identity" in head


def test_a_host_that_tells_another_type_of_its_pictures_is_not_refused_its_answer(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    """Web frameworks answer 406 before they look for the picture, where no accepted type is the view's own."""

    def negotiated(connection: socket.socket) -> None:
        accepts_any = b"*/*" in server.requests[-1]
        connection.sendall(response(picture(), "200 OK" if accepts_any else "406 Not Acceptable"))

    assert fetcher.fetch(server.url("/a", negotiated), DEADLINE).data == picture()


@pytest.fixture(params=["fake", "http"])
def port(request: pytest.FixtureRequest, server: HostileServer) -> Iterator[tuple[ImageFetcher, str]]:
    """Return an image fetcher, and the base of its URLs: /ok, /gone and /busy."""
    if request.param == "fake":
        base = "https://images.example.com"
        busy = ImageTransient(ImageStatus.THROTTLED, "images.example.com answered 429", 7.0)
        gone = ImageRefused(ImageStatus.GONE, "images.example.com answered 404")
        yield ScriptedImages({f"{base}/busy": [busy], f"{base}/gone": [gone]}), base
        return
    server.url("/ok", response(picture()))
    server.url("/gone", response(b"", "404 Not Found"))
    server.url("/busy", response(b"", "429 Slow Down", "Retry-After: 7"))
    made = make_fetcher(server)
    yield made, f"http://{server.pair}"
    made.close()


class TestImageFetcherContract:
    """What the flow relies on, of the fake and of the adapter alike."""

    def test_a_whole_image_comes_with_its_kind_and_size(self, port: tuple[ImageFetcher, str]) -> None:
        fetcher, base = port
        assert fetcher.fetch(f"{base}/ok", DEADLINE) == FetchedImage(picture(), "image/jpeg", 16, 12)

    def test_a_final_answer_is_refused_and_a_passing_one_says_when_to_return(
        self, port: tuple[ImageFetcher, str]
    ) -> None:
        fetcher, base = port
        for _ in range(2):
            with pytest.raises(ImageRefused) as gone:
                fetcher.fetch(f"{base}/gone", DEADLINE)
            with pytest.raises(ImageTransient) as busy:
                fetcher.fetch(f"{base}/busy", DEADLINE)
            assert (gone.value.status, busy.value.status) == (ImageStatus.GONE, ImageStatus.THROTTLED)
            assert busy.value.retry_after_seconds == 7
        assert fetcher.fetch(f"{base}/ok", DEADLINE).data == picture()


def test_one_connection_serves_many_images_and_survives_an_error_page(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    good = server.url("/good", response(picture()))
    gone = server.url("/gone", response(b"no such picture", "404 Not Found"))
    for url in (good, good, gone, good):
        if url == gone:
            failure(fetcher, url)
        else:
            fetcher.fetch(url, DEADLINE)
    assert server.connections == 1


def test_a_connection_that_the_host_closed_meanwhile_is_replaced_within_the_same_try(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    def once(connection: socket.socket) -> None:
        connection.sendall(response(picture()))

    url = server.url("/once", once)
    for _ in range(3):
        assert fetcher.fetch(url, DEADLINE).data == picture()
    assert server.connections == 3


def test_a_connection_that_the_host_means_to_close_is_not_used_again(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    def answered_once(connection: socket.socket) -> None:
        connection.sendall(response(picture(), "200 OK", "Connection: close"))
        while connection.recv(65536):
            pass

    url = server.url("/once", answered_once)
    for _ in range(2):
        assert fetcher.fetch(url, DEADLINE).data == picture()
    assert server.connections == 2


def test_a_chunked_body_and_one_that_ends_with_the_connection_are_read_whole(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    data = picture(7)
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (data[:100], data[100:]))
    chunked = server.url(
        "/c", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n"
    )
    ended = server.url("/e", server.flood(b"HTTP/1.0 200 OK\r\n\r\n", data, 1))
    assert fetcher.fetch(chunked, DEADLINE).data == data
    assert fetcher.fetch(chunked, DEADLINE).data == data
    assert server.connections == 1
    assert fetcher.fetch(ended, DEADLINE).data == data


@pytest.mark.parametrize(
    "status,kind,expected",
    [
        (404, ImageRefused, ImageStatus.GONE),
        (410, ImageRefused, ImageStatus.GONE),
        (401, ImageRefused, ImageStatus.FORBIDDEN),
        (403, ImageRefused, ImageStatus.FORBIDDEN),
        (400, ImageRefused, ImageStatus.HTTP_ERROR),
        (418, ImageRefused, ImageStatus.HTTP_ERROR),
        (204, ImageRefused, ImageStatus.HTTP_ERROR),
        (206, ImageRefused, ImageStatus.HTTP_ERROR),
        (304, ImageRefused, ImageStatus.HTTP_ERROR),
        (302, ImageRefused, ImageStatus.HTTP_ERROR),
        (408, ImageTransient, ImageStatus.HTTP_ERROR),
        (425, ImageTransient, ImageStatus.HTTP_ERROR),
        (429, ImageTransient, ImageStatus.THROTTLED),
        (500, ImageTransient, ImageStatus.SERVER_ERROR),
        (503, ImageTransient, ImageStatus.SERVER_ERROR),
        (599, ImageTransient, ImageStatus.SERVER_ERROR),
    ],
)
def test_a_status_says_whether_another_try_is_worth_it(
    server: HostileServer, fetcher: HttpImageFetcher, status: int, kind: type, expected: ImageStatus
) -> None:
    """B10"""
    failed = failure(fetcher, server.url("/canary?canary", response(b"", f"{status} Whatever")))
    assert (type(failed), failed.status) == (kind, expected)
    assert failed.reason == f"127.0.0.1 answered {status}"
    assert len(server.requests) == 1


def test_retry_after_is_read_as_seconds_or_as_a_date(server: HostileServer, fetcher: HttpImageFetcher) -> None:
    """B12"""
    failed = failure(fetcher, server.url("/", response(b"", "429 Slow Down", "Retry-After: 2")))
    assert isinstance(failed, ImageTransient)
    assert failed.retry_after_seconds == 2
    now = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)
    assert retry_after_seconds("Sat, 21 Nov 2026 03:00:30 GMT", now) == 30
    assert retry_after_seconds("Sat, 21 Nov 2026 02:00:00 GMT", now) == 0
    assert retry_after_seconds(" 3600 ", now) == 3600
    for nonsense in ("", "soon", "-1", "1.5", "\u0662", "Sat, 99 Nov 2026", "Sat, 21 Nov 2026 03:00:30"):
        assert retry_after_seconds(nonsense, now) is None, nonsense
    assert retry_after_seconds("9" * 5000, now) == 999_999_999


def test_what_drips_or_stays_silent_ends_at_the_deadline(server: HostileServer, fetcher: HttpImageFetcher) -> None:
    """B5"""
    head = response(picture())
    hostile: dict[str, Answer] = {
        "/silent": lambda connection: connection.recv(1) and None,
        "/head": drip(head),
        "/headers": drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100),
        "/body": lambda connection: drip(head[200:])(connection) if connection.sendall(head[:200]) is None else None,
        "/chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n\xff\r\n" * 100, 0.01),
        "/error": drip(b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\n" + b"x" * 900, 0.01),
    }
    urls = [server.url(path, answer) for path, answer in hostile.items()]
    with ThreadPoolExecutor(len(urls)) as threads:
        failed = dict(zip(hostile, threads.map(partial(failure, fetcher), urls), strict=True))
    assert failed.pop("/error").status is ImageStatus.SERVER_ERROR
    assert {type(each) for each in failed.values()} == {ImageTransient}
    assert {each.status for each in failed.values()} == {ImageStatus.TIMEOUT}


def test_a_slow_tls_handshake_ends_at_the_deadline(server: HostileServer) -> None:
    """B5"""
    silent = socket.create_server(("127.0.0.1", 0))
    pair = f"127.0.0.1:{silent.getsockname()[1]}"
    with silent:
        slow = make_fetcher(server, pair)
        assert failure(slow, f"https://{pair}/a").status is ImageStatus.TIMEOUT


def test_a_name_that_never_resolves_ends_at_the_deadline(server: HostileServer) -> None:
    """B5"""
    never = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        never.wait(10)
        return []

    slow = make_fetcher(server, sockets=PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=hang))
    assert failure(slow, "http://slow.example.com/").status is ImageStatus.TIMEOUT
    never.set()


def test_a_declared_size_above_the_limit_is_refused_unread(server: HostileServer, fetcher: HttpImageFetcher) -> None:
    """B6"""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n".encode()
    assert failure(fetcher, server.url("/", head)).status is ImageStatus.TOO_LARGE


def test_an_endless_body_or_head_is_read_to_the_limit_and_no_further(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    """B6"""
    chunk = b"\xff" * 1000
    many = 50_000
    ok = b"HTTP/1.1 200 OK\r\n"
    floods = {
        "/endless": server.flood(ok + b"\r\n", chunk, many),
        "/chunked": server.flood(ok + b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + chunk + b"\r\n", many),
        "/trailers": server.flood(ok + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"y" * 995 + b"\r\n", many),
        "/extension": server.flood(ok + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"y" * 994 + b"\r\nz\r\n", many),
    }
    for path, answer in floods.items():
        assert failure(fetcher, server.url(path, answer)).status is ImageStatus.TOO_LARGE, path
    assert server.sent < 50_000_000  # what socket buffers took in, of 200 MB offered
    assert (
        failure(fetcher, server.url("/h", server.flood(ok, b"X: y\r\n", many))).status is ImageStatus.CONNECTION_ERROR
    )


def test_a_body_longer_than_declared_is_cut_at_its_length_and_the_connection_dropped(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    """B6"""
    url = server.url("/", response(picture()) + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
    for _ in range(2):
        assert fetcher.fetch(url, DEADLINE).data == picture()


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    smuggled = threading.Event()

    def twice(connection: socket.socket) -> None:
        connection.sendall(response(picture(1)))
        time.sleep(0.05)
        connection.sendall(response(picture(2)))
        smuggled.set()
        connection.recv(1)

    assert fetcher.fetch(server.url("/first", twice), DEADLINE).data == picture(1)
    assert smuggled.wait(5)
    assert fetcher.fetch(server.url("/second", response(picture(3))), DEADLINE).data == picture(3)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_connection_lost_in_mid_body_is_worth_another_try(
    server: HostileServer, fetcher: HttpImageFetcher, cut: float
) -> None:
    """B13"""
    whole = response(picture(5, "NOISE", (64, 64)))
    failed = failure(fetcher, server.url("/", server.flood(whole[: int(len(whole) * cut)], b"", 1)))
    assert (type(failed), failed.status) == (ImageTransient, ImageStatus.CONNECTION_ERROR)


def test_a_host_that_refuses_connections_or_speaks_no_http_is_worth_another_try(
    server: HostileServer, fetcher: HttpImageFetcher
) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    pair = f"127.0.0.1:{free.getsockname()[1]}"
    free.close()
    assert isinstance(failure(make_fetcher(server, pair), f"http://{pair}/"), ImageTransient)
    for garbage in (
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X" * 70_000,
    ):
        failed = failure(fetcher, server.url("/garbage", server.flood(garbage, b"", 1)))
        assert (type(failed), failed.status) == (ImageTransient, ImageStatus.CONNECTION_ERROR)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
def test_a_content_encoding_nobody_asked_for_is_refused(
    server: HostileServer, fetcher: HttpImageFetcher, encoding: str
) -> None:
    """B7"""
    url = server.url("/", response(picture(), "200 OK", f"Content-Encoding: {encoding}"))
    assert failure(fetcher, url).status is ImageStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("encoding", ["", "identity", "base64", "aws-chunked", "UTF-8", "binary"])
def test_a_content_encoding_that_packs_nothing_is_of_no_account(
    server: HostileServer, fetcher: HttpImageFetcher, encoding: str
) -> None:
    """B7: stores keep what an uploader wrote; a browser shows the picture."""
    url = server.url("/", response(picture(), "200 OK", f"Content-Encoding: {encoding}"))
    assert fetcher.fetch(url, DEADLINE).data == picture()


def test_redirects_are_followed_three_times(server: HostileServer, fetcher: HttpImageFetcher) -> None:
    """B3"""
    for hop in range(4):
        server.url(f"/{hop}", response(b"", "302 Found", f"Location: /{hop + 1}"))
    server.url("/4", response(picture()))
    assert fetcher.fetch(f"http://{server.pair}/1", DEADLINE).data == picture()
    refused = failure(fetcher, f"http://{server.pair}/0")
    assert (refused.status, refused.reason) == (ImageStatus.REFUSED_URL, "more than 3 redirects")


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "http://127.0.0.1/canary",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://localhost/",
        "file:///etc/passwd",
        "http://user@example.com/",
        "/loop",
    ],
)
def test_a_redirect_to_a_private_place_or_in_a_loop_is_refused(server: HostileServer, location: str) -> None:
    """B3"""
    connected: list[str] = []

    def spy(address: str, port: int, seconds: float) -> socket.socket:
        connected.append(f"{address}:{port}")
        return system_connect(address, port, seconds)

    pairs = frozenset({server.pair})
    sockets = PinnedSockets(pairs, SYSTEM_CLOCK, resolve=lambda _host, _port: ["127.0.0.1"], connect=spy)
    guarded = make_fetcher(server, sockets=sockets)
    url = server.url("/loop", response(b"", "301 Moved", f"Location: {location}"))
    assert failure(guarded, url).status is ImageStatus.REFUSED_URL
    assert set(connected) == {server.pair}
    guarded.close()


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::a9fe:a9fe"], ["2002:7f00:1::"]]
)
def test_a_name_with_a_private_address_is_refused_before_any_connection(
    server: HostileServer, answers: list[str]
) -> None:
    """B1"""

    def never(address: str, port: int, _seconds: float) -> socket.socket:
        raise AssertionError(f"connected to {address}:{port}")

    sockets = PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=lambda _host, _port: answers, connect=never)
    refused = failure(make_fetcher(server, sockets=sockets), "http://images.example.com/")
    assert (type(refused), refused.status) == (ImageRefused, ImageStatus.REFUSED_URL)


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(server: HostileServer) -> None:
    """B2"""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []
    connected: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    def connect(address: str, _port: int, seconds: float) -> socket.socket:
        connected.append(address)
        return system_connect("127.0.0.1", server.port, seconds)

    fetcher = make_fetcher(server, sockets=PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=resolve, connect=connect))
    server.url("/a", response(picture()))
    for _ in range(2):
        fetcher.fetch("http://images.example.com/a", DEADLINE)
    assert (asked, connected) == (["images.example.com"], ["93.184.216.34"])
    assert b"Host: images.example.com\r\n" in server.requests[0]
    fetcher.close()
    assert failure(fetcher, "http://images.example.com/a").status is ImageStatus.REFUSED_URL


def test_an_address_that_does_not_answer_leaves_time_for_the_next(server: HostileServer) -> None:
    def connect(address: str, _port: int, seconds: float) -> socket.socket:
        if address != "93.184.216.34":
            assert seconds < DEADLINE * 0.6
            raise TimeoutError
        return system_connect("127.0.0.1", server.port, seconds)

    def both(_host: str, _port: int) -> list[str]:
        return ["2606:4700::1", "93.184.216.34"]

    server.url("/a", response(picture()))
    fetcher = make_fetcher(server, sockets=PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=both, connect=connect))
    assert fetcher.fetch("http://images.example.com/a", DEADLINE).data == picture()
    fetcher.close()


def test_an_unknown_name_is_final_and_a_failing_resolver_is_not(server: HostileServer) -> None:
    for code, kind in ((socket.EAI_NONAME, ImageRefused), (socket.EAI_AGAIN, ImageTransient)):

        def fail(_host: str, _port: int, code: int = code) -> list[str]:
            raise socket.gaierror(code, "no")

        failed = failure(
            make_fetcher(server, sockets=PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=fail)), "http://x.y/"
        )
        assert (type(failed), failed.status) == (kind, ImageStatus.CONNECTION_ERROR)


def test_a_proxy_in_the_environment_is_ignored(
    server: HostileServer, fetcher: HttpImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4"""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetcher.fetch(server.url("/a", response(picture())), DEADLINE).data == picture()


@pytest.mark.parametrize(
    "body,expected",
    [
        (b"", ImageStatus.NOT_AN_IMAGE),
        (b"\xff", ImageStatus.NOT_AN_IMAGE),
        (b"<html>sorry</html>", ImageStatus.NOT_AN_IMAGE),
        (b"<svg/>", ImageStatus.NOT_AN_IMAGE),
        (b"GIF89a/*" + b"\0" * 90, ImageStatus.NOT_AN_IMAGE),
        (picture()[:-2], ImageStatus.TRUNCATED),
        (picture()[:200], ImageStatus.TRUNCATED),
        (picture(0, "PNG")[:-4], ImageStatus.TRUNCATED),
    ],
)
def test_a_body_that_is_no_whole_image_is_refused(
    server: HostileServer, fetcher: HttpImageFetcher, body: bytes, expected: ImageStatus
) -> None:
    """B9"""
    refused = failure(fetcher, server.url("/", response(body)))
    assert (type(refused), refused.status) == (ImageRefused, expected)


@pytest.mark.parametrize("size", [(1, 40_000_000), (40_000_000, 1)])
def test_a_picture_with_an_endless_side_is_refused_by_its_header(size: tuple[int, int]) -> None:
    """B8"""
    data = picture(0, "PNG")
    with pytest.raises(ImageRefused) as refused:
        verified_image(data[:16] + struct.pack(">II", *size) + data[24:], 40_000_000)
    assert refused.value.status is ImageStatus.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_huge_picture_is_refused_by_its_header(kind: str) -> None:
    """B8"""
    data = picture(0, kind)
    if kind == "PNG":
        bomb = data[:16] + (50_000).to_bytes(4) * 2 + data[24:]
    else:
        at = data.index(b"\xff\xc0") + 5
        bomb = data[:at] + (50_000).to_bytes(2) * 2 + data[at + 4 :]
    with pytest.raises(ImageRefused) as refused:
        verified_image(bomb, 40_000_000)
    assert refused.value.status is ImageStatus.TOO_MANY_PIXELS


def _told_two_sizes() -> bytes:
    """Return a PNG with a second header: the first reader takes the first size, Pillow the last."""
    data = picture(0, "PNG")
    content = b"IHDR" + (9_000).to_bytes(4) * 2 + data[24:29]
    return data[:33] + (13).to_bytes(4) + content + zlib.crc32(content).to_bytes(4) + data[33:]


def _of_twelve_bits() -> bytes:
    """Return a JPEG of 12 bits a channel, which Pillow does not decode."""
    data = picture()
    at = data.index(b"\xff\xc0") + 4
    return data[:at] + b"\x0c" + data[at + 1 :]


@pytest.mark.parametrize(
    "data,reason",
    [
        (_told_two_sizes(), "the header tells two sizes"),
        (_of_twelve_bits(), "unreadable header: Un"),
    ],
    ids=["two sizes", "12 bits"],
)
def test_a_header_that_two_readers_do_not_agree_on_is_refused(data: bytes, reason: str) -> None:
    """B8, B9: the pixel limit would hold for one reader only, and the model's decoder is the other."""
    with pytest.raises(ImageRefused, match=reason) as refused:
        verified_image(data, 40_000_000)
    assert refused.value.status is ImageStatus.NOT_AN_IMAGE


def test_no_more_idle_connections_are_kept_than_the_limit(server: HostileServer) -> None:
    sockets = PinnedSockets(
        frozenset(),
        SYSTEM_CLOCK,
        resolve=lambda _host, _port: ["93.184.216.34"],
        connect=lambda _address, _port, seconds: system_connect("127.0.0.1", server.port, seconds),
    )
    fetcher = make_fetcher(server, sockets=sockets)
    server.url("/a", response(picture()))
    for n in range(MAX_IDLE_SOCKETS + 10):
        fetcher.fetch(f"http://host{n}.example.com/a", DEADLINE)
    assert len(sockets._idle) == MAX_IDLE_SOCKETS
    fetcher.close()


def test_where_one_family_of_addresses_leads_nowhere_the_other_is_tried(server: HostileServer) -> None:
    """B13: a CDN tells eight addresses of IPv6 first, and only three are tried."""
    tried: list[str] = []

    def connect(address: str, _port: int, seconds: float) -> socket.socket:
        tried.append(address)
        if ":" in address:
            raise OSError(errno.ENETUNREACH, "no route")
        return system_connect("127.0.0.1", server.port, seconds)

    told = [*(f"2600:9000::{n}" for n in range(1, 9)), "93.184.216.34"]
    sockets = PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=lambda _host, _port: told, connect=connect)
    fetcher = make_fetcher(server, sockets=sockets)
    server.url("/a", response(picture()))
    assert fetcher.fetch("http://images.example.com/a", DEADLINE).data == picture()
    assert tried == ["2600:9000::1", "93.184.216.34"]
    fetcher.close()


def test_a_socket_that_was_idle_for_long_is_not_used_again(server: HostileServer) -> None:
    """B13: a firewall may have forgotten it without a word, and the picture would be lost with the deadline."""
    time_of = SetClock()
    pairs = frozenset({server.pair})
    fetcher = HttpImageFetcher(max_bytes=MAX_BYTES, max_pixels=1_000, allowed_private=pairs, clock=time_of.clock)
    url = server.url("/a", response(picture()))
    connections = []
    for idle_seconds in (0, 29, 31):
        time_of.at += timedelta(seconds=idle_seconds)
        fetcher.fetch(url, DEADLINE)
        connections.append(server.connections)
    assert connections == [1, 1, 2]
    fetcher.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: no certificate to serve TLS with")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=images.example.com", "-addext", "subjectAltName=DNS:images.example.com"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = [openssl, "req", "-x509", *curve, "-keyout", key, "-out", cert, "-days", "2", *subject]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def test_tls_names_and_checks_the_host_although_it_connects_to_an_address(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = HostileServer(context)
    server.url("/a", response(picture()))
    sockets = PinnedSockets(
        frozenset(),
        SYSTEM_CLOCK,
        resolve=lambda _host, _port: ["93.184.216.34"],
        connect=lambda _address, _port, seconds: system_connect("127.0.0.1", server.port, seconds),
        tls=ssl.create_default_context(cafile=str(cert)),
    )
    fetcher = make_fetcher(server, sockets=sockets)
    for _ in range(2):
        assert fetcher.fetch("https://images.example.com/a", DEADLINE).data == picture()
    assert (names, server.connections) == (["images.example.com"], 1)
    refused = failure(fetcher, "https://other.example.com/a")
    assert (type(refused), refused.reason) == (ImageRefused, "other.example.com has no valid certificate")
    fetcher.close()
    server.close()
