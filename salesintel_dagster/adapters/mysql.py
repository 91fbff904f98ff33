"""A MySQL or MariaDB as a SaleSource: one day from one read-only snapshot, streamed row by row from the server.

The same mapping, order, fingerprint and TLS rule as for Postgres. Only InnoDB and its like keep snapshots: a table of
another engine is refused. PyMySQL comes with the extra `[mysql]`; nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymysql

from salesintel_dagster.adapters.mysql_connection import UNREADABLE, Rows, connected
from salesintel_dagster.adapters.mysql_errors import translated
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
    SourceSchemaMismatch,
)
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource, SourceDay
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import RowRules, SourceRow
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping

_Answer = TypeVar("_Answer")

SNAPSHOT_ENGINES = frozenset({"innodb", "rocksdb"})
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
            cursor = Rows(connection)
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
        connection = connected(self._connection, guard)
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
            except UNREADABLE as error:
                raise translated(error, self._connection.place) from None

    def _blocks(self, guard: Watchdog, cursor: Rows, fields: tuple[str, ...]) -> Iterator[list[SourceRow]]:
        while rows := self._ask(guard, lambda: cursor.fetchmany(BATCH_ROWS)):
            yield [_row(fields, row) for row in rows]

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
