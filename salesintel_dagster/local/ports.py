"""TCP ports on loopback: a free one to listen on, and whether somebody answers on one."""

from __future__ import annotations

import http.client
import socket

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import WorldError

LOOPBACK = "127.0.0.1"
FIRST_PORT, PORTS = 20_000, 12_000
"""Ports are taken below Linux's ephemeral range (32768 up), so that no outgoing connection sits on ours later."""
TRIES = 200


def free_port(preferred: int | None = None, clock: Clock = SYSTEM_CLOCK) -> int:
    """Return `preferred` if it can be listened on, else a random free port. Raises WorldError if there is none."""
    if preferred is not None and _can_listen(preferred):
        return preferred
    for _ in range(TRIES):
        port = FIRST_PORT + int(clock.jitter() * PORTS)
        if _can_listen(port):
            return port
    raise WorldError(f"no free TCP port on {LOOPBACK} between {FIRST_PORT} and {FIRST_PORT + PORTS}")


def accepts_connections(port: int) -> bool:
    """Answer whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def _can_listen(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return not accepts_connections(port)


def answers(port: int, path: str) -> bool:
    """Answer whether an HTTP server on the loopback port gives any answer below 500 for `path`."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
