"""SmartGo's Postgres as a SaleSource: one day from one read-only snapshot, streamed through a server-side cursor.

Identifiers reach SQL through `psycopg.sql.Identifier` only, values through parameters only. Nothing that psycopg or
the server says is repeated in an error: it may hold a row, a user or a piece of the password. A server that stalls
is left to no timeout of its own: a watchdog cuts the connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from math import ceil
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from salesintel_dagster.adapters.smartgo_errors import not_connected, translated
from salesintel_dagster.adapters.smartgo_sql import COLUMNS_OF_TABLE, DayStatement, day_statement, probe, relation
from salesintel_dagster.adapters.watchdog import GRACE_SECONDS, Watchdog
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import SettingInvalid, SourceSchemaMismatch
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource, SourceDay
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import RowRules, SourceRow
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping

_Connection = psycopg.Connection[tuple[Any, ...]]
_Cursor = psycopg.ServerCursor[tuple[Any, ...]]
_Answer = TypeVar("_Answer")

_UNREADABLE = (psycopg.Error, ValueError, OverflowError)
"""What reading a row may raise: psycopg's own, and Python's for text that is not UTF-8 or a year past 9999."""

_SESSION = sql.SQL(
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true),"
    " set_config('extra_float_digits', '1', true), set_config('cursor_tuple_fraction', '1', true),"
    " set_config('statement_timeout', %(timeout)s, true)"
)
"""A role or database may set any of these otherwise. The last row is read, so a plan for the first rows is wrong."""

_EVIDENCE = sql.SQL(
    "SELECT current_setting('server_version'), current_setting('transaction_isolation'),"
    " current_setting('transaction_read_only'), current_setting('TimeZone'), txid_current_snapshot()::text"
)

_DSN_FIELDS = {
    "host": "host",
    "port": "port",
    "dbname": "database",
    "user": "username",
    "password": "password",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
}
_DSN_RULE = (
    "source database: expected postgresql://user:password@host:port/database with sslmode and sslrootcert at most, "
    "special characters written as %XX"
)


def connection_from_dsn(dsn: str) -> ConnectionParameters:
    """Return the parts of a connection string. Raises SettingInvalid whose text holds no piece of it."""
    parts = _dsn_parts(dsn)
    if parts is None:
        raise SettingInvalid(_DSN_RULE)
    return ConnectionParameters(**parts)


def _dsn_parts(dsn: str) -> dict[str, Any] | None:
    try:
        found = conninfo_to_dict(dsn)
        parts: dict[str, Any] = {_DSN_FIELDS[name]: value for name, value in found.items()}
        if "port" in parts:
            parts["port"] = int(parts["port"])
    except (psycopg.Error, KeyError, ValueError):
        return None
    return parts if {"host", "database", "username", "password"} <= parts.keys() else None


class SmartGoSource(SaleSource):
    """SmartGo's sales, as `mapping` describes them. Nothing is connected before `read`."""

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
        and SourceMappingInvalid for a query that the server does not accept.
        """
        with self._session(deadline_seconds) as (connection, guard):
            cursor = connection.cursor("smartgo_day")
            try:
                statement = self._ask(guard, lambda: self._statement(connection, window))
                fingerprint = self._ask(guard, lambda: _fingerprint(connection, statement))
                evidence = self._ask(guard, lambda: self._evidence(connection, statement, window))
                self._ask(guard, lambda: cursor.execute(statement.query, statement.parameters, binary=True))
                yield SourceDay(self._blocks(guard, cursor, statement.fields), evidence, fingerprint)
            finally:
                connection.close()
                cursor.close()  # after the connection: no word to a server that may be gone

    def fingerprint(
        self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds
    ) -> SourceFingerprint:
        """Return count and checksum of the window's rows, summed up by the server: one short answer comes back."""
        with self._session(deadline_seconds) as (connection, guard):
            statement = self._ask(guard, lambda: self._statement(connection, window))
            return self._ask(guard, lambda: _fingerprint(connection, statement))

    @contextmanager
    def _session(self, deadline_seconds: float) -> Iterator[tuple[_Connection, Watchdog]]:
        guard = Watchdog(self._connection.place, deadline_seconds)
        connection = self._connect(guard.remaining_seconds())
        try:
            guard.watch(connection.fileno())
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

    def _blocks(self, guard: Watchdog, cursor: _Cursor, fields: tuple[str, ...]) -> Iterator[list[SourceRow]]:
        while rows := self._ask(guard, lambda: cursor.fetchmany(BATCH_ROWS)):
            yield [dict(zip(fields, row, strict=True)) for row in rows]

    def _statement(self, connection: _Connection, window: DayWindow) -> DayStatement:
        """Begin the transaction, with a session that no default of a role or a database changes."""
        connection.execute(_SESSION, {"timeout": str(self._connection.statement_timeout_seconds * 1000)})
        return day_statement(self._mapping, self._columns(connection), window)

    def _connect(self, within_seconds: float) -> _Connection:
        """Connect. PGHOSTADDR must not lead elsewhere, nor a Kerberos ticket make libpq skip TLS and its checks."""
        wanted = self._connection
        try:
            connection = psycopg.connect(
                host=wanted.host,
                hostaddr="",
                port=wanted.port,
                dbname=wanted.database,
                user=wanted.username,
                password=wanted.password,
                sslmode=wanted.tls_mode,
                sslrootcert=wanted.sslrootcert or _trusted_roots(wanted.tls_mode),
                gssencmode="disable",
                connect_timeout=min(wanted.connect_timeout_seconds, ceil(within_seconds)),
                application_name="salesintel",
                client_encoding="UTF8",
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            raise not_connected(error, wanted.place) from None
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def _columns(self, connection: _Connection) -> list[tuple[str, int]]:
        """Return (name, type oid) of the source's columns, in the snapshot that is read afterwards."""
        if self._mapping.table is None:
            described = connection.execute(probe(self._mapping), {}).description or []
            return [(column.name, column.type_code) for column in described]
        name = relation(self._mapping).as_string(connection)
        found = connection.execute(COLUMNS_OF_TABLE, {"table": name}).fetchall()
        if not found:
            raise SourceSchemaMismatch(f"{self._connection.place}: no table {self._mapping.table} for this user")
        return [(str(column), int(oid)) for column, oid in found]

    def _evidence(self, connection: _Connection, statement: DayStatement, window: DayWindow) -> dict[str, str]:
        version, isolation, read_only, zone, snapshot = connection.execute(_EVIDENCE).fetchone() or ("",) * 5
        return {
            "source": self._connection.place,
            "sql": statement.query.as_string(connection),
            "window": f"[{_instant(window.start)}, {_instant(window.end)})",
            "window_zone": window.zone.key,
            "server_version": str(version),
            "isolation": f"{isolation}, read only {read_only}",
            "session_time_zone": str(zone),
            "snapshot": str(snapshot),
        }


def _fingerprint(connection: _Connection, statement: DayStatement) -> SourceFingerprint:
    rows, high, low = connection.execute(statement.fingerprint, statement.parameters).fetchone() or (0, 0, 0)
    half = 2**64
    return SourceFingerprint(int(rows), f"{int(high or 0) % half:016x}{int(low or 0) % half:016x}")


def _instant(value: datetime) -> str:
    return value.isoformat(timespec="microseconds")


def _trusted_roots(mode: str) -> str | None:
    """Return the system's certificate file where one is needed.

    Not libpq's `system`: the driver's own OpenSSL looks for it under /usr/lib/psycopg-openssl, where nothing is.
    """
    return ssl.get_default_verify_paths().cafile if mode.startswith("verify-") else None
