"""A connection to MySQL or MariaDB over our own socket and TLS context, and a result that may be left unfinished."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from salesintel_dagster.adapters.mysql_errors import CERTIFICATES_UNREADABLE, not_connected
from salesintel_dagster.adapters.watchdog import Watchdog
from salesintel_dagster.domain.errors import SourceRefused, SourceUnavailable
from salesintel_dagster.domain.source import ConnectionParameters

UNREADABLE = (pymysql.MySQLError, OSError, ValueError, ArithmeticError)
"""What reading a row may raise: PyMySQL's own, and Python's for text that is not UTF-8 or a number that is none."""


class Rows(SSCursor):  # type: ignore[misc]  # the driver has no types
    """An unbuffered result that may be left unfinished; PyMySQL would read it to its end, also when it is collected."""

    def abandon(self) -> None:
        """Forget the rest of the rows. The connection is of no more use."""
        if self._result is not None:
            self._result.unbuffered_active = False
        self.connection = None


def connected(wanted: ConnectionParameters, guard: Watchdog) -> pymysql.Connection:
    """Connect, with `guard` on the socket. Raises SourceUnavailable, SourceRefused; `guard` is closed then."""
    connection = pymysql.Connection(
        host=wanted.host,
        port=wanted.port,
        user=wanted.username,
        password=wanted.password.encode(),
        database=wanted.database,
        charset="utf8mb4",
        autocommit=None,
        program_name="salesintel",
        defer_connect=True,
        **_tls(wanted),
    )
    try:
        with guard.at_most(wanted.connect_timeout_seconds):
            plain = _opened(wanted, guard.remaining_seconds())
            guard.watch(plain.fileno())
            connection.connect(plain)
    except (*UNREADABLE, RuntimeError, AssertionError, IndexError) as error:
        guard.close()
        raise not_connected(error, wanted.place) from None
    except SourceUnavailable:
        guard.close()
        raise
    return connection


def _opened(wanted: ConnectionParameters, within_seconds: float) -> socket.socket:
    seconds = min(float(wanted.connect_timeout_seconds), within_seconds)
    if wanted.host.startswith("/"):
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        local.settimeout(seconds)
        try:
            local.connect(wanted.host)
        except BaseException:
            local.close()
            raise
        return local
    plain = socket.create_connection((wanted.host, wanted.port), seconds)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _tls(wanted: ConnectionParameters) -> dict[str, Any]:
    """Return PyMySQL's words for the mode; with a context of ours a server without TLS is refused."""
    if wanted.tls_mode == "disable":
        return {"ssl_disabled": True}
    if wanted.tls_mode in {"allow", "prefer"}:
        return {}
    try:
        context = ssl.create_default_context(cafile=wanted.sslrootcert)
    except OSError:
        raise SourceRefused(f"{wanted.place}: {CERTIFICATES_UNREADABLE}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on from Python 3.13; the CA that a MySQL makes itself fails it
    context.check_hostname = wanted.tls_mode == "verify-full"
    if wanted.tls_mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}
