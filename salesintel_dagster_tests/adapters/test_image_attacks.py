"""The image stage with its real fetcher against hostile URLs and servers: what reaches store, memory and log."""

from __future__ import annotations

import gzip
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from salesintel_dagster.adapters.bounded_reader import BUFFER_BYTES
from salesintel_dagster.adapters.http_images import MAX_OVERHEAD_BYTES, HttpImageFetcher
from salesintel_dagster.adapters.pinned_sockets import PinnedSockets, system_connect
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.images import ImageLimits
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import dagster_export
from salesintel_dagster_tests.fakes.hostile_server import Answer, HostileServer, response
from salesintel_dagster_tests.fakes.hostile_urls import FORBIDDEN, PRIVATE, REFUSED_URLS
from salesintel_dagster_tests.fakes.image_day import DAY, Day
from salesintel_dagster_tests.fakes.images import picture

MAX_BYTES = 1_000_000
IMPATIENT = ImageLimits(5, 5, RetryPolicy(retries=1, base_seconds=0.01, deadline_seconds=5.0))
SIDE = 50_000


@pytest.fixture
def server() -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.close()


def fetcher_of(server: HostileServer, sockets: PinnedSockets | None = None) -> HttpImageFetcher:
    return HttpImageFetcher(
        max_bytes=MAX_BYTES, max_pixels=40_000_000, allowed_private=frozenset({server.pair}), sockets=sockets
    )


def statuses(day: Day) -> list[object]:
    return [row["image_status"] for row in day.rows()]


def literal(address: str) -> str:
    return f"http://[{address}]/a.jpg" if ":" in address else f"http://{address}/a.jpg"


def test_no_form_of_a_hostile_url_reaches_a_connection_and_every_sale_is_kept(server: HostileServer):
    """B1: v4, v6, mapped, NAT64, 6to4, decimal, octal, unicode digits, userinfo, backslash, other schemes, port 22."""
    connected: list[str] = []

    def connect(address: str, port: int, _seconds: float) -> socket.socket:
        connected.append(f"{address}:{port}")
        raise ConnectionRefusedError

    def lenient(host: str, _port: int) -> list[str]:  # reads 0x7f.1 and 2130706433 as a C library does
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except (OSError, UnicodeEncodeError):
            return ["127.0.0.1"]

    urls = [*REFUSED_URLS, *map(literal, FORBIDDEN), *map(literal, PRIVATE), "http://localhost/", "http://intranet/"]
    assert len(set(urls)) >= 100
    day = Day(urls)
    with_spies = PinnedSockets(frozenset({server.pair}), SYSTEM_CLOCK, resolve=lenient, connect=connect)
    done = day.run(fetcher_of(server, with_spies), IMPATIENT)
    assert {url: status for url, status in zip(urls, statuses(day), strict=True) if status != "REFUSED_URL"} == {}
    assert (connected, server.connections, day.images()) == ([], 0, [])
    assert done.tally.failures == {"REFUSED_URL": len(urls)}


def test_more_than_the_limit_is_read_by_a_buffer_at_most_and_not_stored(server: HostileServer):
    """B6: more sent than declared, no length at all, endless chunks."""
    received: dict[str, int] = {}

    class Counted(socket.socket):
        def recv_into(self, *words: object) -> int:
            number = super().recv_into(*words)
            received[server.paths()[-1]] = received.get(server.paths()[-1], 0) + number
            return number

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        return Counted(fileno=system_connect(address, port, seconds).detach())

    noise = picture(1, "NOISE", (1800, 1800))
    assert len(noise) > MAX_BYTES * 1.2
    declared = int(MAX_BYTES * 0.9)
    head = b"HTTP/1.1 200 OK\r\n"
    chunk = b"%x\r\n" % 10_000 + b"\xff" * 10_000 + b"\r\n"
    answers: dict[str, Answer] = {
        "/longer": server.flood(head + b"Content-Length: %d\r\n\r\n" % declared, noise, 1),
        "/no-length": server.flood(head + b"\r\n", noise, 1),
        "/chunked": server.flood(head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, 20_000),
    }
    day = Day([server.url(path, answer) for path, answer in answers.items()])
    sockets = PinnedSockets(frozenset({server.pair}), SYSTEM_CLOCK, connect=connect)
    one_by_one = ImageLimits(1, 1, IMPATIENT.retry)
    day.run(fetcher_of(server, sockets), one_by_one)
    assert statuses(day) == ["TRUNCATED", "TOO_LARGE", "TOO_LARGE"]
    assert day.images() == []
    assert declared <= received["/longer"] <= declared + BUFFER_BYTES
    for path in ("/no-length", "/chunked"):
        assert MAX_BYTES < received[path] <= MAX_BYTES + MAX_OVERHEAD_BYTES + BUFFER_BYTES, path


@pytest.mark.parametrize(
    "head, unit, status",
    [
        (b"", b"HTTP/1.1 100\r\n\r\n", "CONNECTION_ERROR"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nX\r\n", "TOO_LARGE"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nX\r\n0\r\n", b"a\r\n", "TOO_LARGE"),
    ],
    ids=["interim answers", "chunks of one byte", "trailers"],
)
def test_what_is_wrapped_around_an_image_has_a_limit_of_its_own(
    server: HostileServer, head: bytes, unit: bytes, status: str
):
    """B6: 10 MB of it, as much as an image may have, cost up to 2 s of a core and 70 MB."""
    received: list[int] = []

    class Counted(socket.socket):
        def recv_into(self, *words: object) -> int:
            received.append(super().recv_into(*words))
            return received[-1]

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        return Counted(fileno=system_connect(address, port, seconds).detach())

    sockets = PinnedSockets(frozenset({server.pair}), SYSTEM_CLOCK, connect=connect)
    day = Day([server.url("/a", server.flood(head, unit * 10_000, 10 * MAX_BYTES // len(unit * 10_000)))])
    day.run(fetcher_of(server, sockets), IMPATIENT)
    assert statuses(day) == [status]
    assert sum(received) < 2 * MAX_OVERHEAD_BYTES


CHILD = """
import resource, sys
from salesintel_dagster.adapters.http_images import HttpImageFetcher
from salesintel_dagster.domain.errors import ImageRefused
pair, *paths = sys.argv[1:]
fetcher = HttpImageFetcher(max_bytes=10 * 1024 * 1024, max_pixels=40_000_000, allowed_private=frozenset({pair}))
fetcher.fetch(f"http://{pair}/ok", 5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in paths:
    try:
        fetcher.fetch(f"http://{pair}{path}", 5)
        print(path, "taken")
    except ImageRefused as refused:
        print(path, refused.status)
print("grew", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def bomb(kind: str) -> bytes:
    """Return a small file whose header promises 50,000 x 50,000 pixels."""
    if kind == "JPEG":
        data = picture()
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", SIDE, SIDE) + data[at + 4 :]
    if kind == "PNG":
        data = picture(0, "PNG")
        return data[:16] + struct.pack(">II", SIDE, SIDE) + data[24:]
    data = picture(0, kind)
    if kind == "GIF":
        return data[:6] + struct.pack("<HH", SIDE, SIDE) + data[10:]
    at = data.index(b"\x9d\x01\x2a") + 3  # VP8's frame header has 14 bits a side
    return data[:at] + struct.pack("<HH", 16_383, 16_383) + data[at + 4 :]


def test_bombs_are_refused_without_being_unpacked(server: HostileServer):
    """B7, B8: the child's memory grows by less than 30 MB; 50,000 x 50,000 pixels would be 7 GB."""
    packed = gzip.compress(b"\0" * 200_000_000, 1)
    server.url("/ok", response(picture()))
    for encoding in ("gzip", "br", "deflate"):
        server.url(f"/{encoding}", response(packed, "200 OK", f"Content-Encoding: {encoding}"))
    server.url("/raw", response(packed))
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        server.url(f"/{kind}", response(bomb(kind)))
    paths = [path for path in server.answers if path != "/ok"]
    command = [sys.executable, "-c", CHILD, server.pair, *paths]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    found = dict(line.split() for line in told)
    grown_kb = int(found.pop("grew"))
    expected = dict.fromkeys(paths, "NOT_AN_IMAGE") | dict.fromkeys(("/PNG", "/JPEG"), "TOO_MANY_PIXELS")
    assert found == expected
    assert grown_kb < 30_000


def test_what_is_no_whole_picture_is_refused_with_its_reason_and_not_stored(server: HostileServer):
    """B8, B9"""
    whole = picture(1, "NOISE", (64, 64))
    bodies = {
        "html": b"<!doctype html><html>sorry</html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "polyglot": b"GIF89a/*" + b"\0" * 40 + b"*/=1;alert(1)",
        "empty": b"",
        "byte": b"\xff",
        "cut": whole[: len(whole) * 9 // 10],
        **{kind: bomb(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")},
    }
    day = Day([server.url(f"/{name}", response(body)) for name, body in bodies.items()])
    day.run(fetcher_of(server), IMPATIENT)
    found = {name: row["image_status"] for name, row in zip(bodies, day.rows(), strict=True)}
    refused = dict.fromkeys(bodies, "NOT_AN_IMAGE") | {"cut": "TRUNCATED", "PNG": "TOO_MANY_PIXELS"}
    assert found == refused | {"JPEG": "TOO_MANY_PIXELS"}
    assert all(row["image_reason"] for row in day.rows())
    assert day.images() == []


def test_a_connection_reset_in_mid_body_is_tried_again_and_no_part_is_stored(server: HostileServer):
    """B13"""
    noise = picture(2, "NOISE", (400, 400))
    whole = response(noise)

    def reset(connection: socket.socket) -> None:
        server.answers["/a"] = whole
        connection.sendall(whole[: len(whole) // 2])
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a RST
        connection.close()

    day = Day([server.url("/a", reset)])
    done = day.run(fetcher_of(server), IMPATIENT)
    assert (statuses(day), done.retries, server.paths()) == (["ok"], 1, ["/a", "/a"])
    [key] = day.images()
    assert day.store.get(key) == noise


def test_a_token_in_an_image_url_is_in_no_log_line_event_progress_or_manifest(
    server: HostileServer, capfd: pytest.CaptureFixture[str]
):
    """B19: they tell the host, and the URL by its hash; the URL itself lies in the staged source rows alone."""
    canary = "c4n4ry-t0ken"
    answers: dict[str, Answer] = {
        "ok": response(picture()),
        "gone": response(b"", "404 Not Found"),
        "busy": response(b"", "503 Busy"),
        "html": response(b"<html>"),
        "away": response(b"", "302 Found", f"Location: http://10.0.0.1/{canary}"),
        "cut": server.flood(response(picture())[:80], b"", 1),
    }
    urls = [server.url(f"/{name}?token={canary}", answer) for name, answer in answers.items()]
    urls += [f"http://user:{canary}@images.example.com/", f"http://{canary}.example.com:22/", f"ftp://{canary}/a"]
    with dagster_export(Settings(image_retry_base_seconds=0.01)) as export:
        export.world.sell(DAY, len(urls))
        for row, url in zip(export.world.source.rows, urls, strict=True):
            row["image_url"] = url
        export.world.images = fetcher_of(server)
        run = export.run(DAY)
        assert run.success
        events = [repr(event) for event in export.instance.all_logs(run.result.run_id)]
        staged = export.world.staged
        with staged.batches("product_images", DAY) as batches:
            manifest = [row for batch in batches for row in batch.to_pylist()]
        told = [
            *events,
            repr(manifest),
            repr(export.world.ledger.history(DAY)),
            repr(export.world.table.rows),
            *capfd.readouterr(),
        ]
    assert [text[:200] for text in told if canary in text] == []
    assert sum(row["image_status"] == "ok" for row in manifest) == 1
    assert all(row["url_sha256"] for row in manifest)
    assert any("127.0.0.1 answered 404" in text for text in told)
