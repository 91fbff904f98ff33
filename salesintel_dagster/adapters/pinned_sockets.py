"""Sockets to hosts whose address was checked: one resolution, the check, a connection to that very address.

A connection that is kept alive is still the checked one, so a host is resolved again only for a new connection. No
proxy is ever used. Every wait, the resolver's too, ends at the caller's deadline.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from queue import Empty, SimpleQueue
from typing import NamedTuple

from salesintel_dagster.adapters.bounded_reader import BoundedReader, Connection
from salesintel_dagster.adapters.handshake_costs import HandshakeCosts
from salesintel_dagster.adapters.tls_stream import TlsStream
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ImageRefused
from salesintel_dagster.domain.image_urls import ImageUrl, addresses_to_try, check_addresses
from salesintel_dagster.domain.outcome import ImageStatus

MAX_IDLE_SOCKETS = 64
"""Kept alive over all hosts; a day of many hosts must not use up file descriptors."""
MAX_IDLE_SECONDS = 30.0
"""Firewalls forget a silent one without a word, after minutes: what is asked on it is lost with all its time."""
CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!SHA1:!AESCCM"
"""Python's own without DHE, which browsers gave up in 2017: a host that chooses 10,000 bits for it costs 0.6 s of a
core each time it is connected to, and itself nothing."""
NO_PACKED_CERTIFICATES = 1 << 33
"""OpenSSL's SSL_OP_NO_RX_CERTIFICATE_COMPRESSION, from 3.2 on; `ssl` has no name for it. 1 KB may hold 100 KB of them,
so that a limit on bytes would say nothing of their number."""

Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def system_resolve(host: str, port: int) -> list[str]:
    """Return the host's addresses in the system's order of preference. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def system_connect(address: str, port: int, timeout_seconds: float) -> socket.socket:
    """Connect to an address, never to a name. Raises OSError."""
    connected = socket.create_connection((address, port), timeout=timeout_seconds)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def tls_to_strangers() -> ssl.SSLContext:
    """Return a context that checks certificates and names, and offers no work whose amount the host would choose.

    A renegotiation brings another chain of certificates whenever the host likes.
    """
    context = ssl.create_default_context()
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | NO_PACKED_CERTIFICATES
    return context


class _Idle(NamedTuple):
    origin: tuple[str, str]
    connection: Connection
    since: float


class PinnedSockets:
    """Opens and keeps sockets by origin. `allowed_pairs` are the `host:port` that may be private addresses.

    `are_trusted` says that the hosts are an operator's and not a stranger's: they choose ciphers and pieces freely.
    """

    def __init__(  # noqa: PLR0913 - what a test or the owner chooses, all by name
        self,
        allowed_pairs: frozenset[str],
        clock: Clock,
        *,
        are_trusted: bool = False,
        resolve: Resolve = system_resolve,
        connect: Connect = system_connect,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = allowed_pairs
        self._clock = clock
        self._are_trusted = are_trusted
        self._resolve = resolve
        self._connect = connect
        self._tls = tls
        self._costs = HandshakeCosts()
        self._idle: list[_Idle] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def close(self) -> None:
        """Close the sockets that are kept."""
        _close_all(self._idle)

    def kept(self, url: ImageUrl) -> Connection | None:
        """Return a socket that an earlier request to this origin left, if one is still silent and open."""
        while (found := self._take(_origin(url))) is not None:
            if self._clock.monotonic() - found.since <= MAX_IDLE_SECONDS and not _has_news(found.connection):
                return found.connection
            found.connection.close()
        return None

    def open(self, url: ImageUrl, deadline: float) -> Connection:
        """Resolve, check, connect. Raises ImageRefused for an address we do not visit, OSError, TimeoutError."""
        addresses = [url.literal_address] if url.literal_address else self._resolved(url, deadline)
        check_addresses(url, addresses, self._allowed)
        tried = addresses_to_try(addresses)
        affordable = [address for address in tried if not self._costs.are_too_high(address)]
        if not affordable:
            raise ImageRefused(ImageStatus.CONNECTION_ERROR, f"the TLS handshakes of {url.host} cost too much")
        plain, address = self._connected(affordable, url.port, deadline)
        if url.scheme == "http":
            return plain
        try:
            plain.settimeout(self._remaining(deadline))
            context = self._context()  # the first time it reads all authorities: none of the host's work
            with nullcontext() if self._are_trusted else self._costs.counted(address):
                return TlsStream(plain, context, url.host, self._clock, is_trusted=self._are_trusted)
        except BaseException:
            plain.close()
            raise

    def send(self, connection: Connection, request: bytes, deadline: float) -> None:
        """Write a request to a connection of ours. Raises TimeoutError, OSError."""
        connection.settimeout(self._remaining(deadline))
        connection.sendall(request)

    def reader(self, connection: Connection, deadline: float, max_bytes: int) -> BoundedReader:
        """Return what reads one answer from a connection of ours."""
        return BoundedReader(connection, deadline, self._clock, max_bytes, is_trusted=self._are_trusted)

    def keep(self, url: ImageUrl, finished: Connection) -> None:
        """Keep a socket whose answer was read to its end; the oldest is closed when too many are kept."""
        with self._lock:
            self._idle.append(_Idle(_origin(url), finished, self._clock.monotonic()))
            oldest = self._idle.pop(0) if len(self._idle) > MAX_IDLE_SOCKETS else None
        if oldest is not None:
            oldest.connection.close()

    def _take(self, origin: tuple[str, str]) -> _Idle | None:
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at].origin == origin:
                    return self._idle.pop(at)
        return None

    def _resolved(self, url: ImageUrl, deadline: float) -> list[str]:
        """Resolve in a thread of its own: getaddrinfo knows no timeout and must not hold a slot for ever."""
        answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

        def resolve() -> None:
            try:
                answers.put(self._resolve(url.host, url.port))
            except OSError as error:
                answers.put(error)
            except UnicodeError:
                answers.put(socket.gaierror(socket.EAI_NONAME, "not a host name"))

        threading.Thread(target=resolve, name="resolve", daemon=True).start()
        try:
            answer = answers.get(timeout=self._remaining(deadline))
        except Empty:
            raise TimeoutError("the name was not resolved in time") from None
        if isinstance(answer, OSError):
            raise answer
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return answer

    def _connected(self, addresses: list[str], port: int, deadline: float) -> tuple[socket.socket, str]:
        """Try each address with an even share of the time left, so that a dead first one leaves time for a second."""
        for left in range(len(addresses), 1, -1):
            try:
                return self._connect(addresses[-left], port, self._remaining(deadline) / left), addresses[-left]
            except OSError:
                continue
        return self._connect(addresses[-1], port, self._remaining(deadline)), addresses[-1]

    def _remaining(self, deadline: float) -> float:
        remaining = deadline - self._clock.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context() if self._are_trusted else tls_to_strangers()
            return self._tls


def _origin(url: ImageUrl) -> tuple[str, str]:
    return url.scheme, url.pair


def _has_news(idle: Connection) -> bool:
    """Tell whether an idle socket was closed by its peer, or holds bytes nobody asked for."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0)) or (isinstance(idle, TlsStream) and idle.holds_bytes)


def _close_all(idle: list[_Idle]) -> None:
    while idle:
        idle.pop().connection.close()
