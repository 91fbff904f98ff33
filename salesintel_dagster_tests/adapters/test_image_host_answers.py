"""Answers that no honest host gives: each is that one image's own trouble and nobody else's."""

from __future__ import annotations

import io
import select
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from PIL import Image

from salesintel_dagster.adapters.bounded_reader import BoundedReader
from salesintel_dagster.adapters.http_images import HttpImageFetcher, verified_image
from salesintel_dagster.adapters.pieces import FREE_PIECES
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import ImageRefused, ImageTransient
from salesintel_dagster.domain.images import for_decoding
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster_tests.fakes.hostile_server import HostileServer, response
from salesintel_dagster_tests.fakes.images import picture

OK = "HTTP/1.1 200 OK\r\n"
EARLY = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
LENGTH = f"Content-Length: {len(picture())}\r\n"
CHUNKED = f"{OK}Transfer-Encoding: chunked\r\n\r\n"
NO_HTTP = {
    "a negative chunk": f"{CHUNKED}-5\r\nhello\r\n0\r\n\r\n",
    "a chunk to the end": f"{CHUNKED}-1\r\nhello\r\n0\r\n\r\n",
    "a chunk size in words": f"{CHUNKED}five\r\nhello\r\n0\r\n\r\n",
    "an endless chunk size": f"{CHUNKED}{'f' * 70_000}\r\n",
    "a boundary of 5,000 digits": f"{OK}Content-Type: multipart/x; boundary*{'1' * 5_000}=a\r\n\r\n",
    "a boundary with a zero in its charset": f"{OK}Content-Type: multipart/x; boundary*=\0''a\r\n\r\n",
    "HTTP/0.9": "<html>hello",
    "another protocol": "SSH-2.0-OpenSSH_9.6\r\n",
    "a status of no number": "HTTP/1.1 ok OK\r\n\r\n",
    "a status of a thousand": "HTTP/1.1 1000 OK\r\n\r\n",
    "101 headers": OK + "X: y\r\n" * 101 + "\r\n",
    "a header of 70 KB": f"{OK}X: {'y' * 70_000}\r\n\r\n",
    "only continues": "HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    "countless interim answers before a picture": f"{EARLY * 3_000}{OK}{LENGTH}\r\n{picture().decode('latin-1')}",
}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.close()


@pytest.fixture
def fetcher(server: HostileServer) -> Iterator[HttpImageFetcher]:
    made = HttpImageFetcher(max_bytes=1_000_000, max_pixels=1_000_000, allowed_private=frozenset({server.pair}))
    yield made
    made.close()


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_the_one_images_failure(server: HostileServer, fetcher: HttpImageFetcher, name: str):
    """B5, B6, B9: none of it is an error that nobody foresaw, which would be the whole day's."""
    url = server.url("/a", server.flood(NO_HTTP[name].encode("latin-1"), b"", 1))
    with pytest.raises((ImageTransient, ImageRefused)) as raised:
        fetcher.fetch(url, 2.0)
    assert raised.value.status in {ImageStatus.CONNECTION_ERROR, ImageStatus.TOO_LARGE, ImageStatus.NOT_AN_IMAGE}
    assert fetcher.fetch(server.url("/b", response(picture())), 2.0).width > 0


def test_a_connection_whose_answer_could_not_be_read_is_not_used_again(
    server: HostileServer, fetcher: HttpImageFetcher
):
    """B13: what the host still sends of it would be the next picture."""
    asked_again: list[bytes] = []
    over = threading.Event()

    def unreadable(connection: socket.socket) -> None:
        connection.sendall(CHUNKED.encode() + b"five\r\n")
        asked_again.append(connection.recv(1))
        over.set()

    with pytest.raises(ImageTransient):
        fetcher.fetch(server.url("/a", unreadable), 2.0)
    assert fetcher.fetch(server.url("/b", response(picture())), 2.0).width > 0
    assert over.wait(2.0)
    assert asked_again == [b""]


BOUNDARY = 'Content-Type: multipart/x; a="'
COSTLY = {
    "of 64 KB": f"{OK}{BOUNDARY}{';' * 65_000}",
    "folded": f"{OK}{BOUNDARY}{';' * 50_000}\r\n {';' * 50_000}",
    "behind a lone CR": f"{OK}X: y\r{BOUNDARY}{';' * 65_000}",
    "under a header that is read": f"{OK}Location: y\r{BOUNDARY}{';' * 65_000}",
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_content_type_is_not_unpacked(server: HostileServer, fetcher: HttpImageFetcher, name: str):
    """B5: the email parser behind http.client took 2 s for 64 KB and the square of it for more, past any deadline."""
    image = picture()
    head = f"{COSTLY[name]}\r\nContent-Length: {len(image)}\r\n\r\n"
    url = server.url("/a", head.encode() + image)
    began = time.thread_time()
    assert fetcher.fetch(url, 5.0).data == image
    assert time.thread_time() - began < 0.5


ODD_HEADS = {
    "early hints": f"{EARLY * 9}HTTP/1.1 102 Processing\r\n\r\n{OK}{LENGTH}",
    "a header without a colon": f"{OK}X-Frame-Options DENY\r\n{LENGTH}",
    "a blank in a name": f"{OK}X Frame: DENY\r\n{LENGTH}",
    "a blank behind a name": f"{OK}Server : nginx\r\n{LENGTH}",
    "letters in a name": f"{OK}Sérvér: nginx\r\n{LENGTH}",
    "a folded header": f"{OK}P3P: a,\r\n\t b\r\n{LENGTH}",
    "a folded length": OK + LENGTH.replace(":", ":\r\n"),
}


@pytest.mark.parametrize("name", ODD_HEADS)
def test_an_odd_head_of_an_honest_host_is_read(server: HostileServer, fetcher: HttpImageFetcher, name: str):
    """B5: the length was lost with what is no header, and the picture only came with the deadline."""
    url = server.url("/a", ODD_HEADS[name].encode() + b"\r\n" + picture())
    assert [fetcher.fetch(url, 2.0).data == picture() for _ in range(2)] == [True] * 2
    assert server.connections == 1


def test_what_follows_early_hints_is_not_taken_for_the_next_picture(server: HostileServer, fetcher: HttpImageFetcher):
    """B13: a 103 was the answer, and the connection was asked again before the picture had come."""

    def later(connection: socket.socket) -> None:
        connection.sendall(EARLY.encode())
        select.select([connection], [], [], 0.1)
        connection.sendall(response(picture(1)))

    found = []
    for url in (server.url("/a", later), server.url("/b", response(picture(2)))):
        with suppress(ImageRefused):
            found.append(fetcher.fetch(url, 2.0).data)
    assert found == [picture(1), picture(2)]


TOLD_TWICE = {
    "two lengths": f"{OK}{LENGTH}{LENGTH}\r\n".encode() + picture(),
    "a length and chunks": f"{OK}{LENGTH}Transfer-Encoding: chunked\r\n\r\n%x\r\n".encode() % len(picture())
    + picture()
    + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", TOLD_TWICE)
def test_a_connection_that_told_a_length_twice_is_not_used_again(
    server: HostileServer, fetcher: HttpImageFetcher, name: str
):
    """B13: where a host lets a stranger add a header, the rest of his picture would be another's."""
    url = server.url("/a", TOLD_TWICE[name])
    assert [fetcher.fetch(url, 2.0).data == picture() for _ in range(2)] == [True] * 2
    assert server.connections == 2


def receives_taken(piece_bytes: int, times: int) -> int:
    """Return how many receives of so many bytes are taken of `times`."""
    host, asker = socket.socketpair()
    with host, asker:
        reader = BoundedReader(asker, SYSTEM_CLOCK.monotonic() + 5.0, SYSTEM_CLOCK, 10_000_000)
        for taken in range(times):
            host.sendall(bytes(piece_bytes))
            try:
                reader.readinto(bytearray(65_536))
            except ConnectionAbortedError:
                return taken
    return times


def test_an_answer_in_countless_pieces_is_cut_off():
    """B5: sent byte by byte, as fast as the host can, it kept a core busy until the deadline."""
    assert FREE_PIECES <= receives_taken(1, 10_000) < FREE_PIECES * 1.1
    assert receives_taken(536, 18_000) == 18_000  # the smallest segment that TCP may choose by itself


RETRY_AFTER = ("-1", "1e999", "\u0661", "Thu, 99 Foo 10000000000 99:99:99 +999999", "x" * 60_000, " ", ",", "1" * 5_000)


@pytest.mark.parametrize("text", RETRY_AFTER, ids=lambda text: text[:12])
def test_a_strange_retry_after_is_none_or_a_wait(server: HostileServer, fetcher: HttpImageFetcher, text: str):
    """B12"""
    answer = b"HTTP/1.1 429 x\r\nContent-Length: 0\r\nRetry-After: " + text.encode() + b"\r\n\r\n"
    with pytest.raises(ImageTransient) as raised:
        fetcher.fetch(server.url("/a", answer), 2.0)
    assert raised.value.retry_after_seconds is None or raised.value.retry_after_seconds >= 0


@pytest.mark.parametrize("status", ["302 Found\r\nLocation: /picture", "404 Not Found"])
def test_an_error_page_that_is_announced_and_does_not_come_is_not_waited_for(
    server: HostileServer, fetcher: HttpImageFetcher, status: str
):
    """B5: a 404 took the deadline, and so did a redirect that browsers follow: its picture was lost."""
    gone = threading.Event()

    def announce(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 154\r\n\r\n".encode())
        gone.wait(10)

    server.url("/picture", response(picture()))
    url, began = server.url("/a", announce), time.monotonic()
    with suppress(ImageRefused):
        assert fetcher.fetch(url, 5.0).data == picture()
    gone.set()
    assert time.monotonic() - began < 2.0


LOCATIONS = ("http://[", "http://[::1", "//\uff11\uff10.0.0.1/", "http://10.0.0.1\r\n /x", "\0", "?", "//\u2100@a/")


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_strange_location_is_refused(server: HostileServer, fetcher: HttpImageFetcher, location: str):
    """B3"""
    answer = f"HTTP/1.1 302 x\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()
    with pytest.raises((ImageRefused, ImageTransient)):
        fetcher.fetch(server.url("/a", answer), 2.0)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*between: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 72))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [png(chunk(b"vpAg", b"") * 800_000), png(chunk(b"IDAT", b"x"), chunk(b"IDAT", b"") * 800_000)],
    ids=["before the pixels", "as pixels"],
)
def test_a_png_of_countless_chunks_costs_no_seconds(data: bytes):
    """B7, B8: 10 MB of empty chunks kept Pillow busy for 10 s, after the deadline and with everybody waiting."""
    began = time.thread_time()
    with pytest.raises(ImageRefused) as raised:
        verified_image(data, 1_000_000)
    assert raised.value.status is ImageStatus.NOT_AN_IMAGE
    assert time.thread_time() - began < 1.0
    assert verified_image(png(chunk(b"tEXt", b"a\0b") * 100), 1_000_000).width == 8


@pytest.mark.parametrize("name, head", [(b"zTXt", b"xmp\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0")])
def test_a_png_whose_history_is_long_is_an_image(name: bytes, head: bytes):
    """Editors keep it as packed XMP, and Pillow refuses the picture for one of more than 1 MB."""
    history = chunk(name, head + zlib.compress(b"<xmp/>" * 400_000))
    for data in (png(history), png(chunk(b"gAMA", b"\0\0\xb1\x8f"), history, chunk(b"tEXt", b"a\0b"))):
        assert verified_image(data, 1_000_000).width == 8
        with Image.open(io.BytesIO(for_decoding(data))) as image:
            assert image.tobytes() == bytes(64)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def with_segments(data: bytes) -> bytes:
    image = picture()
    return image[:2] + data + image[2:]


def tags(number: int) -> bytes:
    """Return a TIFF directory whose tags each claim 60,000 bytes of a file that has not so many."""
    entries = b"".join(struct.pack("<HHLL", tag, 1, 60_000, 0) for tag in range(number))
    return b"II*\0" + struct.pack("<LH", 8, number) + entries + bytes(4)


METADATA = {
    "2,000 Exif segments": segment(0xE1, b"Exif\0\0" + bytes(2_000)) * 2_000,
    "an Exif segment of 5,000 wrong tags": segment(0xE1, b"Exif\0\0" + tags(5_000)),
    "a multi-picture index of 5,000 wrong tags": segment(0xE2, b"MPF\0" + tags(5_000)),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_a_jpeg_is_not_unpacked(name: str):
    """B7, B8: 10 MB of Exif segments kept Pillow busy for 20 s, and a wrong tag was two lines on stderr."""
    data = with_segments(METADATA[name])
    began = time.thread_time()
    assert verified_image(data, 1_000_000).width == 16
    assert time.thread_time() - began < 0.1


def test_a_jpeg_with_more_tables_than_any_picture_has_is_refused():
    """B8: each of 10 MB of quantisation tables is an array to Pillow."""
    table = segment(0xDB, (b"\0" + b"\1" * 64) * 100)
    assert verified_image(with_segments(table * 10), 1_000_000).width == 16
    with pytest.raises(ImageRefused, match="of tables"):
        verified_image(with_segments(table * 1_000), 1_000_000)
