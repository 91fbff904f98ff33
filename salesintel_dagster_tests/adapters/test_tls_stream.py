"""An image host with a good certificate that means harm: what OpenSSL would do for as long as it is sent."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesintel_dagster.adapters.handshake_costs import FREE_SECONDS, MOST_SECONDS, HandshakeCosts
from salesintel_dagster.adapters.http_images import HttpImageFetcher
from salesintel_dagster.adapters.pinned_sockets import (
    NO_PACKED_CERTIFICATES,
    PinnedSockets,
    system_connect,
    tls_to_strangers,
)
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import ImageRefused, ImageTransient
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster_tests.certificates import Authority
from salesintel_dagster_tests.fakes.hostile_certificates import dear_certificates
from salesintel_dagster_tests.fakes.hostile_server import Answer, HostileServer, response
from salesintel_dagster_tests.fakes.images import picture

URL = "https://images.example.com"
DEADLINE = 5.0
TICKETS = 2_000
"""Half a megabyte; Python's server sends two. Each costs its receiver 10 us."""


class Bytewise(socket.socket):
    """A socket to a host that sends each byte in a TCP segment of its own."""

    def recv(self, _most: int, _flags: int = 0) -> bytes:
        return super().recv(1)


class Host:
    """An image host behind TLS, and the fetcher that asks it."""

    comes_bytewise = False

    def __init__(self, authority: Authority, more_certificates: str = "") -> None:
        own = authority.signed("images", "DNS:images.example.com")
        own.chain.write_text(own.chain.read_text() + more_certificates)
        self.context = own.server_context()
        self.server = HostileServer(self.context)
        sockets = PinnedSockets(
            frozenset(),
            SYSTEM_CLOCK,
            resolve=lambda _host, _port: ["93.184.216.34"],
            connect=self._connected,
            tls=ssl.create_default_context(cafile=str(authority.file)),
        )
        self.fetcher = HttpImageFetcher(max_bytes=1_000_000, max_pixels=1_000_000, sockets=sockets)

    def _connected(self, _address: str, _port: int, seconds: float) -> socket.socket:
        plain = system_connect("127.0.0.1", self.server.port, seconds)
        return Bytewise(fileno=plain.detach()) if self.comes_bytewise else plain

    def close(self) -> None:
        self.fetcher.close()
        self.server.close()

    def answer(self, path: str, answer: Answer) -> str:
        self.server.url(path, answer)
        return f"{URL}{path}"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(Authority(tmp_path))
    yield made
    made.close()


def test_a_flood_of_session_tickets_ends_long_before_the_deadline(host: Host):
    """B5: they count as no data, so that OpenSSL reads on past any timeout while more of them come."""
    host.context.num_tickets = TICKETS
    url = host.answer("/a", lambda connection: bool(connection.recv(1)))
    started = time.monotonic()
    with pytest.raises(ImageTransient) as failed:
        host.fetcher.fetch(url, DEADLINE)
    assert (failed.value.status, failed.value.reason) == (
        ImageStatus.CONNECTION_ERROR,
        "images.example.com: ConnectionAbortedError",
    )
    assert time.monotonic() - started < DEADLINE / 2


@pytest.mark.parametrize("tickets, records", [(400, 2_000), (2, 8_000)], ids=["tickets and bytes", "bytes"])
def test_records_without_data_are_counted_over_the_whole_connection(host: Host, tickets: int, records: int):
    """B5: a byte of data between them made each read a new beginning, and kept a core busy until the deadline."""
    host.context.num_tickets = tickets

    def byte_by_byte(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(records):
            connection.sendall(b"x")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        connection.recv(1)

    url = host.answer("/a", byte_by_byte)
    with pytest.raises(ImageTransient, match="ConnectionAbortedError"):
        host.fetcher.fetch(url, 2.0)


def test_a_large_record_in_countless_segments_is_cut_off(host: Host):
    """B5: it counted as one piece; 8 s of a core until a deadline of 10."""
    host.comes_bytewise = True
    with pytest.raises(ImageTransient, match="ConnectionAbortedError"):
        host.fetcher.fetch(host.answer("/a", response(picture(1, "NOISE", (100, 100)))), DEADLINE)


def test_a_key_exchange_whose_cost_the_host_chooses_is_not_offered():
    """B5: 10,000 bits of DHE took 0.6 s of a core for each connection."""
    offered = {cipher["name"] for cipher in tls_to_strangers().get_ciphers()}
    assert {"TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"} <= offered
    assert not [name for name in offered if not name.startswith(("TLS_", "ECDHE-"))]


def test_an_address_whose_certificates_cost_seconds_to_read_is_not_connected_to_again(tmp_path: Path):
    """B5: 100 of them, 66 KB, held a core for 17 s at each connection, 7 s past a deadline of 10; none was trusted."""
    host = Host(Authority(tmp_path), dear_certificates(8))
    url = host.answer("/a", response(picture(1)))
    assert host.fetcher.fetch(url, 60.0).data == picture(1)
    host.fetcher.close()
    with pytest.raises(ImageRefused) as failed:
        host.fetcher.fetch(url, DEADLINE)
    host.close()
    assert (failed.value.status, failed.value.reason) == (
        ImageStatus.CONNECTION_ERROR,
        "the TLS handshakes of images.example.com cost too much",
    )
    assert host.server.connections == 1


def test_a_host_is_given_up_with_the_few_addresses_that_are_tried_and_not_after_thousands():
    """B5: to look each of 2,300 up took 28 ms, at each of the 16 connections that an image may come to."""
    names = [f"2600:{at:x}::1" for at in range(1, 2_300)]
    sockets = PinnedSockets(frozenset(), SYSTEM_CLOCK, resolve=lambda _host, _port: names)
    for address in names[:3]:
        with sockets._costs.counted(address):
            work(MOST_SECONDS + FREE_SECONDS + 0.01)
    fetcher = HttpImageFetcher(max_bytes=1_000_000, max_pixels=1_000_000, sockets=sockets)
    with pytest.raises(ImageRefused, match="cost too much"):
        fetcher.fetch(f"{URL}/a", DEADLINE)


def test_a_chain_of_certificates_that_no_host_has_is_not_read(tmp_path: Path):
    """B5: each KiB of it may cost 0.25 s before anything is checked."""
    authority = Authority(tmp_path)
    host = Host(authority, authority.file.read_text() * 80)
    with pytest.raises(ImageTransient, match="ConnectionAbortedError"):
        host.fetcher.fetch(host.answer("/a", response(picture(1))), DEADLINE)
    host.close()


def work(seconds: float) -> None:
    """Keep this thread's core busy, by the clock that the costs are counted with."""
    worked_until = time.thread_time() + seconds
    while time.thread_time() < worked_until:
        pass


def test_an_honest_handshake_on_a_slow_machine_is_free():
    """All keys on P-384 take 5.3 ms here; five times that, at each picture of a host that keeps no connection."""
    costs = HandshakeCosts()
    for _ in range(30):
        with costs.counted("93.184.216.34"):
            work(0.027)
    assert not costs.are_too_high("93.184.216.34")


def test_an_honest_handshake_is_free_and_a_network_of_addresses_is_one_holder():
    costs = HandshakeCosts()
    for address in ("2600:9000:1:1::1", "2600:9000:1:2::1"):
        with costs.counted(address):
            work(0.3)
    assert costs.are_too_high("2600:9000:1:3::1")
    assert not costs.are_too_high("2600:9000:2:1::1")
    for _ in range(10):
        with costs.counted("2600:9000:1:1::1"):
            pass
    assert not costs.are_too_high("2600:9000:1:3::1")


@pytest.mark.parametrize("option", [ssl.OP_NO_RENEGOTIATION, NO_PACKED_CERTIFICATES])
def test_no_host_sends_its_certificates_again_or_packed(option: int):
    """B5: how many it may send would have no limit."""
    assert tls_to_strangers().options & option


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one_behind_tls_either(host: Host):
    """B13: it came along with the first one, and lies decrypted or not where no poll of the socket sees it."""

    def two_at_once(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        head, body = response(picture(1)).split(b"\r\n\r\n")[0] + b"\r\n\r\n", picture(1)
        for record in (head, body, response(picture(2))):
            connection.sendall(record)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        connection.recv(1)

    first, second = host.answer("/a", two_at_once), host.answer("/b", response(picture(3)))
    assert host.fetcher.fetch(first, DEADLINE).data == picture(1)
    assert host.fetcher.fetch(second, DEADLINE).data == picture(3)


def test_many_records_make_one_picture_and_one_connection_serves_many(host: Host):
    large = picture(1, "NOISE", (700, 700))
    assert len(large) > 10 * 16_384
    url = host.answer("/a", response(large))
    assert [host.fetcher.fetch(url, DEADLINE).data == large for _ in range(3)] == [True] * 3
    assert host.server.connections == 1


def test_a_body_cut_off_behind_tls_is_worth_another_try(host: Host):
    """B13"""
    whole = response(picture(1))

    def cut(connection: socket.socket) -> None:
        connection.sendall(whole[:-100])

    with pytest.raises(ImageTransient, match="ConnectionResetError"):
        host.fetcher.fetch(host.answer("/a", cut), DEADLINE)
