"""The one SELECT that reads a day from MySQL or MariaDB: columns checked, names quoted, values bound.

Names are plain identifiers already (`SourceMapping`), so that a backtick cannot be in one. The driver binds on our
side, by quoting; all values are instants of our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pymysql.constants import FIELD_TYPE

from salesintel_dagster.adapters.source_columns import kinds_of
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.local_time import offsets
from salesintel_dagster.domain.sale import SOURCE_FIELDS
from salesintel_dagster.domain.source import RECORDED_AT, SourceMapping

COLUMNS_OF_TABLE = (
    "SELECT column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = COALESCE(%(schema)s, DATABASE()) AND table_name = %(table)s ORDER BY ordinal_position"
)
"""Names only the columns that this user may read."""
ENGINE_OF_TABLE = (
    "SELECT engine FROM information_schema.tables"
    " WHERE table_schema = COALESCE(%(schema)s, DATABASE()) AND table_name = %(table)s"
)

KINDS = {
    FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.DATETIME: "datetime",
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDECIMAL: "decimal",
    FIELD_TYPE.DECIMAL: "decimal",
    FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double",
    FIELD_TYPE.TINY: "tinyint",
    FIELD_TYPE.SHORT: "smallint",
    FIELD_TYPE.INT24: "mediumint",
    FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint",
    FIELD_TYPE.VARCHAR: "varchar",
    FIELD_TYPE.VAR_STRING: "varchar",
    FIELD_TYPE.STRING: "char",
    FIELD_TYPE.BLOB: "text",
    FIELD_TYPE.LONG_BLOB: "text",
    FIELD_TYPE.MEDIUM_BLOB: "text",
    FIELD_TYPE.TINY_BLOB: "text",
    FIELD_TYPE.JSON: "json",
    FIELD_TYPE.BIT: "bit",
}
"""A mapped query's columns: the wire tells types by number, and bytes as text."""

_LONGEST_OFFSET = timedelta(days=1)
_TEXT = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json"})
_BINARY = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"})
_NUMBER = frozenset({"decimal", "double", "tinyint", "smallint", "mediumint", "int", "bigint"})
_PRICE = _TEXT | _NUMBER | {"float"}
_INSTANTS = ("sold_at", RECORDED_AT)
_ORDER = ("sold_at", "sale_id", "product_id", "sold_price")


@dataclass(frozen=True, slots=True)
class DayStatement:
    """SQL with named placeholders, their values, and our field name of each column of the query's result.

    `fingerprint` gives one row about the query's rows: their count, and two sums of 64 bits of each row's hash.
    """

    query: str
    fingerprint: str
    parameters: Mapping[str, object]
    fields: tuple[str, ...]


def relation(mapping: SourceMapping) -> str:
    """Return the mapped table, quoted, or the mapped query as a subselect; a bare % would be a placeholder."""
    if mapping.table is not None:
        return ".".join(f"`{part}`" for part in mapping.table.split("."))
    return "(\n" + (mapping.query or "").replace("%", "%%") + "\n)"


def probe(mapping: SourceMapping) -> str:
    """Return the SELECT of no row whose description names the columns of a mapped query."""
    return f"SELECT * FROM {relation(mapping)} AS `source` LIMIT 0"  # noqa: S608 - names checked, no value


def day_statement(mapping: SourceMapping, found: Iterable[tuple[str, str]], window: DayWindow) -> DayStatement:
    """Return the SELECT of one day. `found` is (name, data type) of each column that the source has.

    Order and rows without a sold_at are as for Postgres. Raises SourceSchemaMismatch for a missing, doubled or
    unreadable column.
    """
    mapped = {name: mapping.column_of(name) for name in (*SOURCE_FIELDS, RECORDED_AT)}
    wanted = {name: column for name, column in mapped.items() if column is not None}
    kinds = _checked(wanted, list(found), mapping)
    clock = _LocalClock.of(mapping.sold_at_zone, window)
    values = {name: _value(name, _quoted(wanted[name]), kinds[name], clock) for name in wanted}
    fields = tuple(name for name in SOURCE_FIELDS if name in values)
    source, in_day = relation(mapping), _in_day(wanted, kinds, values)
    columns = ", ".join(f"{values[name]} AS `{name}`" for name in fields)
    order = _order(fields, kinds, values, _quoted(wanted["sold_at"]))
    query = f"SELECT {columns}\nFROM {source} AS `source`\nWHERE {in_day}\nORDER BY {order}"
    return DayStatement(query, _fingerprint(fields, values, source, in_day), _parameters(window, clock), fields)


@dataclass(frozen=True, slots=True)
class _LocalClock:
    """How local times near a window become UTC: a server's own zone tables may be empty."""

    pieces: tuple[tuple[datetime, int], ...] = ()

    @classmethod
    def of(cls, zone: str | None, window: DayWindow) -> _LocalClock:
        if zone is None:
            return cls()
        first, last = window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
        return cls(tuple(offsets(ZoneInfo(zone), first - _LONGEST_OFFSET, last + _LONGEST_OFFSET)))

    def as_utc(self, column: str) -> str:
        *changes, (_, last) = self.pieces
        cases = "".join(f" WHEN {column} < %(until{n})s THEN {offset}" for n, (_, offset) in enumerate(changes))
        return f"({column} - INTERVAL {f'CASE{cases} ELSE {last} END' if cases else last} SECOND)"

    @property
    def parameters(self) -> dict[str, str]:
        return {f"until{n}": _literal(until) for n, (until, _) in enumerate(self.pieces)}


def _quoted(column: str) -> str:
    return f"`source`.`{column}`"


def _checked(wanted: Mapping[str, str], found: list[tuple[str, str]], mapping: SourceMapping) -> dict[str, str]:
    def problems(kinds: Mapping[str, str]) -> list[str]:
        judged = (_unreadable(name, column, kinds[name], mapping) for name, column in wanted.items())
        unreadable = [problem for problem in judged if problem is not None]
        if mapping.sold_at_zone is not None and not any(kinds.get(name) == "datetime" for name in _INSTANTS):
            unreadable.append("sold_at_zone is set, but the column stores its time zone itself")
        return unreadable

    return kinds_of(wanted, found, problems)


def _unreadable(name: str, column: str, kind: str, mapping: SourceMapping) -> str | None:
    if name in _INSTANTS:
        if kind == "datetime" and mapping.sold_at_zone is None:
            return f"column {column} is datetime, without time zone; name its zone in sold_at_zone"
        if kind not in {"datetime", "timestamp"}:
            return f"column {column} is {kind}, expected timestamp or datetime"
    if name == "sold_price" and kind not in _PRICE:
        return f"column {column} is {kind}, expected decimal, float, integer or text"
    return None


def _value(name: str, column: str, kind: str, clock: _LocalClock) -> str:
    """Return the column as we read it: instants in UTC, text as utf8mb4, bytes as hex digits, float as its text."""
    if name in _INSTANTS:
        return clock.as_utc(column) if kind == "datetime" else column
    if kind in _TEXT:
        return f"CONVERT({column} USING utf8mb4)"
    if name == "sold_price" and kind in _NUMBER:
        return column
    return f"HEX({column})" if kind in _BINARY else f"CAST({column} AS CHAR)"


def _in_day(wanted: Mapping[str, str], kinds: Mapping[str, str], values: Mapping[str, str]) -> str:
    """Half-open. A local column is also compared as it is stored, a day wider, so that its index serves."""
    column = _quoted(wanted["sold_at"])
    sold = f"{values['sold_at']} >= %(start)s AND {values['sold_at']} < %(end)s"
    if kinds["sold_at"] == "datetime":
        sold += f" AND {column} >= %(local_start)s AND {column} < %(local_end)s"
    without = _without(column)
    if RECORDED_AT in values:
        at, known = values[RECORDED_AT], _quoted(wanted[RECORDED_AT])
        without += f" AND ({at} >= %(start)s AND {at} < %(end)s OR {_without(known)})"
    return f"({sold}) OR ({without})"


def _without(column: str) -> str:
    """MySQL's zero date is one more way of saying nothing."""
    return f"({column} IS NULL OR {column} = 0)"


def _order(fields: tuple[str, ...], kinds: Mapping[str, str], values: Mapping[str, str], sold_at: str) -> str:
    """Every mapped column, text by its bytes: the same order on every server, whatever its collation."""
    terms = [_without(sold_at)]
    for name in dict.fromkeys((*_ORDER, *fields)):
        if name in fields:
            plain = name == "sold_at" or (name == "sold_price" and kinds[name] in _NUMBER)
            terms += [f"{values[name]} IS NULL", values[name] if plain else f"CAST({values[name]} AS BINARY)"]
    return ", ".join(terms)


def _fingerprint(fields: tuple[str, ...], values: Mapping[str, str], source: str, in_day: str) -> str:
    """A sum has no order and counts a doubled row twice. Lengths tell a null from a text, and where one column ends."""
    parts = ", ".join(
        f"COALESCE(CONCAT(LENGTH(CAST({values[name]} AS CHAR)), ':', CAST({values[name]} AS CHAR)), '-')"
        for name in fields
    )
    half = "SUM(CAST(CONV(SUBSTRING(`digest`, {}, 16), 16, 10) AS UNSIGNED))"
    return (
        f"SELECT COUNT(*), {half.format(1)}, {half.format(17)}\n"
        f"FROM (SELECT SHA2(CONCAT({parts}), 256) AS `digest`\nFROM {source} AS `source`\nWHERE {in_day}) AS `hashed`"
    )


def _parameters(window: DayWindow, clock: _LocalClock) -> dict[str, str]:
    start, end = window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
    return {
        "start": _literal(start),
        "end": _literal(end),
        "local_start": _literal(start - _LONGEST_OFFSET),
        "local_end": _literal(end + _LONGEST_OFFSET),
        **clock.parameters,
    }


def _literal(at: datetime) -> str:
    return at.isoformat(" ", "microseconds")
