"""A MySQL or MariaDB as a SaleSource: one day from one read-only snapshot, streamed row by row from the server.

The same mapping, order, fingerprint and TLS rule as for Postgres. Only InnoDB and its like keep snapshots: a table of
another engine is refused. PyMySQL comes with the extra `[mysql]`; nothing else imports this module.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymysql
from pymysql.cursors import SSCursor

from salesintel_dagster.adapters.mysql_errors import CERTIFICATES_UNREADABLE, not_connected, translated
from salesintel_dagster.adapters.mysql_sql import (
    COLUMNS_OF_TABLE,
    ENGINE_OF_TABLE,
    KINDS,
    DayStatement,
    day_statement,
    probe,
)
from salesintel_dagster.adapters.watchdog import GRACE_SECONDS, Watchdog
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import (
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource, SourceDay
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import RowRules, SourceRow
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping

_Answer = TypeVar("_Answer")

SNAPSHOT_ENGINES = frozenset({"innodb", "rocksdb"})
_UNREADABLE = (pymysql.MySQLError, OSError, ValueError, ArithmeticError)
"""What reading a row may raise: PyMySQL's own, and Python's for text that is not UTF-8 or a number that is none."""
_SESSION = (
    "SET SESSION time_zone = '+00:00', SESSION sql_mode = '', SESSION net_write_timeout = %(seconds)s",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
"""A server may set any of these otherwise. It hangs up on a reader that pauses for longer than net_write_timeout."""
_TIMEOUT_OF = {
    True: ("SET SESSION max_statement_time = %(limit)s", 1),
    False: ("SET SESSION max_execution_time = %(limit)s", 1000),
}
"""By whether the server is MariaDB: the statement, and the units in a second."""
_EVIDENCE = (
    "SHOW VARIABLES WHERE Variable_name IN"
    " ('version', 'time_zone', 'transaction_isolation', 'tx_isolation', 'max_statement_time', 'max_execution_time')"
)


class _Rows(SSCursor):  # type: ignore[misc]  # the driver has no types
    """An unbuffered result that may be left unfinished; PyMySQL would read it to its end, also when it is collected."""

    def abandon(self) -> None:
        """Forget the rest of the rows. The connection is of no more use."""
        if self._result is not None:
            self._result.unbuffered_active = False
        self.connection = None


class MySqlSource(SaleSource):
    """The sales of a MySQL or MariaDB, as `mapping` describes them. Nothing is connected before `read`."""

    def __init__(self, connection: ConnectionParameters, mapping: SourceMapping, default_currency: str) -> None:
        self._connection = connection
        self._mapping = mapping
        self._rules = mapping.rules(default_currency)

    @property
    def rules(self) -> RowRules:
        """The mapping's tenant or tenants, and the default currency."""
        return self._rules

    @contextmanager
    def read(self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds) -> Iterator[SourceDay]:
        """Open one REPEATABLE READ, READ ONLY snapshot of the window; blocks of rows are BATCH_ROWS long.

        Raises SourceUnavailable, SourceSchemaMismatch (before the first row for a missing or unreadable column),
        and SourceMappingInvalid for a query that the server does not accept or a table without snapshots.
        """
        with self._session(deadline_seconds) as (connection, guard):
            statement = self._ask(guard, lambda: self._statement(connection, window))
            fingerprint = self._ask(guard, lambda: _fingerprint(connection, statement))
            evidence = self._ask(guard, lambda: self._evidence(connection, statement, window))
            cursor = _Rows(connection)
            try:
                self._ask(guard, lambda: cursor.execute(statement.query, statement.parameters))
                yield SourceDay(self._blocks(guard, cursor, statement.fields), evidence, fingerprint)
            finally:
                guard.cut()
                cursor.abandon()

    def fingerprint(
        self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds
    ) -> SourceFingerprint:
        """Return count and checksum of the window's rows, summed up by the server: one short answer comes back."""
        with self._session(deadline_seconds) as (connection, guard):
            statement = self._ask(guard, lambda: self._statement(connection, window))
            return self._ask(guard, lambda: _fingerprint(connection, statement))

    @contextmanager
    def _session(self, deadline_seconds: float) -> Iterator[tuple[pymysql.Connection, Watchdog]]:
        guard = Watchdog(self._connection.place, deadline_seconds)
        connection = self._connected(guard)
        try:
            yield connection, guard
        finally:
            connection.close()
            guard.close()

    def _ask(self, guard: Watchdog, question: Callable[[], _Answer]) -> _Answer:
        """Put one question to the server, with every failure translated and no wait that outlasts its timeout."""
        with guard.at_most(self._connection.statement_timeout_seconds + GRACE_SECONDS):
            try:
                return question()
            except _UNREADABLE as error:
                raise translated(error, self._connection.place) from None

    def _blocks(self, guard: Watchdog, cursor: _Rows, fields: tuple[str, ...]) -> Iterator[list[SourceRow]]:
        while rows := self._ask(guard, lambda: cursor.fetchmany(BATCH_ROWS)):
            yield [_row(fields, row) for row in rows]

    def _connected(self, guard: Watchdog) -> pymysql.Connection:
        wanted = self._connection
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
        except (*_UNREADABLE, RuntimeError, AssertionError, IndexError) as error:
            guard.close()
            raise not_connected(error, wanted.place) from None
        except SourceUnavailable:
            guard.close()
            raise
        return connection

    def _statement(self, connection: pymysql.Connection, window: DayWindow) -> DayStatement:
        """Begin the transaction, with a session that no default of the server changes."""
        seconds = self._connection.statement_timeout_seconds
        limit, units = _TIMEOUT_OF["mariadb" in connection.get_server_info().lower()]
        with connection.cursor() as cursor:
            cursor.execute(limit, {"limit": seconds * units})
            for text in _SESSION:
                cursor.execute(text, {"seconds": seconds})
            return day_statement(self._mapping, self._columns(cursor), window)

    def _columns(self, cursor: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - the driver has no types
        """Return (name, data type) of the source's columns, in the snapshot that is read afterwards."""
        if self._mapping.table is None:
            cursor.execute(probe(self._mapping), {})
            return [(str(name), KINDS.get(kind, f"of type {kind}")) for name, kind, *_ in cursor.description]
        schema, _, table = self._mapping.table.rpartition(".")
        names = {"schema": schema or None, "table": table}
        cursor.execute(COLUMNS_OF_TABLE, names)
        found = [(str(name), _text(kind).lower()) for name, kind in cursor.fetchall()]
        if not found:
            raise SourceSchemaMismatch(f"{self._connection.place}: no table {self._mapping.table} for this user")
        cursor.execute(ENGINE_OF_TABLE, names)
        [engine] = cursor.fetchone() or (None,)
        if engine is not None and engine.lower() not in SNAPSHOT_ENGINES:
            raise SourceMappingInvalid(
                f"{self._connection.place}: table {self._mapping.table} is kept by {engine}, which has no snapshots"
            )
        return found

    def _evidence(self, connection: pymysql.Connection, statement: DayStatement, window: DayWindow) -> dict[str, str]:
        with connection.cursor() as cursor:
            cursor.execute(_EVIDENCE)
            told = {str(name): str(value) for name, value in cursor.fetchall()}
        isolation = told.get("transaction_isolation") or told.get("tx_isolation", "")
        return {
            "source": self._connection.place,
            "sql": statement.query,
            "window": f"[{window.start.isoformat(timespec='microseconds')}, "
            f"{window.end.isoformat(timespec='microseconds')})",
            "window_zone": window.zone.key,
            "server_version": told.get("version", ""),
            "isolation": f"{isolation.replace('-', ' ').lower()}, consistent snapshot, read only",
            "session_time_zone": told.get("time_zone", ""),
        }


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


def _fingerprint(connection: pymysql.Connection, statement: DayStatement) -> SourceFingerprint:
    with connection.cursor() as cursor:
        cursor.execute(statement.fingerprint, statement.parameters)
        rows, high, low = cursor.fetchone()
    half = 2**64
    return SourceFingerprint(int(rows), f"{int(high or 0) % half:016x}{int(low or 0) % half:016x}")


def _row(fields: tuple[str, ...], values: tuple[object, ...]) -> SourceRow:
    """Return the row by our names; the session speaks UTC. A zero date stays the text that it is."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
        for name, value in zip(fields, values, strict=True)
    }


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
