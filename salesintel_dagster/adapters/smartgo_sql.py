"""The one SELECT that reads a day from SmartGo: columns checked against what is there, names quoted, values bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql
from psycopg.postgres import types

from salesintel_dagster.adapters.source_columns import kinds_of
from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.sale import SOURCE_FIELDS
from salesintel_dagster.domain.source import RECORDED_AT, SourceMapping

COLUMNS_OF_TABLE = sql.SQL(
    "SELECT a.attname, (CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END)::bigint"
    " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = pg_catalog.to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped"
    " ORDER BY a.attnum"
)
"""From the catalog: a user who may read the mapped columns only may not `SELECT *`."""

_LONGEST_OFFSET = timedelta(days=1)


def _oids(*names: str) -> frozenset[int]:
    return frozenset(types[name].oid for name in names)


_INSTANT = _oids("timestamptz")
_LOCAL = _oids("timestamp")
_TEXT = _oids("text", "varchar", "bpchar")
_FLOAT4 = _oids("float4")
_PRICE = _TEXT | _FLOAT4 | _oids("numeric", "float8", "int2", "int4", "int8")
_SOURCE = sql.Identifier("source")
_ORDER = ("sold_at", "sale_id", "product_id", "sold_price")
_FINGERPRINT = sql.SQL(
    "SELECT count(*), sum(('x' || encode(substr(digest, 1, 8), 'hex'))::bit(64)::bigint),"
    " sum(('x' || encode(substr(digest, 9, 8), 'hex'))::bit(64)::bigint)\n"
    "FROM (SELECT sha256(convert_to(ROW({columns})::text, 'UTF8')) AS digest\n"
    "FROM {relation} AS {source}\nWHERE {window}) AS hashed"
)
"""A sum has no order and counts a doubled row twice, which an exclusive or would cancel. The quoting of ROW(...)::text
tells a null from an empty text, and where one column ends. sha256, since a FIPS server has no md5."""


@dataclass(frozen=True, slots=True)
class DayStatement:
    """SQL with named placeholders, their values, and our field name of each column of the query's result.

    `fingerprint` gives one row about the query's rows: their count, and two sums of 64 bits of each row's hash.
    """

    query: sql.Composed
    fingerprint: sql.Composed
    parameters: Mapping[str, object]
    fields: tuple[str, ...]


def relation(mapping: SourceMapping) -> sql.Composable:
    """Return the mapped table, quoted, or the mapped query as a subselect."""
    if mapping.table is not None:
        return sql.Identifier(*mapping.table.split("."))
    text = (mapping.query or "").replace("%", "%%")  # a bare % is a placeholder to psycopg
    return sql.Composed([sql.SQL("(\n"), sql.SQL(text), sql.SQL("\n)")])


def probe(mapping: SourceMapping) -> sql.Composed:
    """Return the SELECT of no row whose description names the columns of a mapped query."""
    return sql.SQL("SELECT * FROM {} AS {} LIMIT 0").format(relation(mapping), _SOURCE)


def day_statement(mapping: SourceMapping, found: Iterable[tuple[str, int]], window: DayWindow) -> DayStatement:
    """Return the SELECT of one day. `found` is (name, type oid) of each column that the source has.

    Rows with a sold_at come first, in the order (sold_at, sale id, product id, price, all other mapped columns);
    rows without one follow, for `recorded_at`'s day where it is mapped and known, for every day where not.
    Raises SourceSchemaMismatch for a missing, doubled or unreadable column.
    """
    mapped = {name: mapping.column_of(name) for name in (*SOURCE_FIELDS, RECORDED_AT)}
    wanted = {name: column for name, column in mapped.items() if column is not None}
    oids = _checked(wanted, list(found), mapping)
    values = {name: _value(name, sql.Identifier("source", wanted[name]), oids[name]) for name in wanted}
    fields = tuple(name for name in SOURCE_FIELDS if name in values)
    in_day = _in_day(wanted, oids, values)
    query = sql.SQL("SELECT {columns}\nFROM {relation} AS {source}\nWHERE {window}\nORDER BY {order}").format(
        columns=sql.SQL(", ").join(sql.SQL("{} AS {}").format(values[name], sql.Identifier(name)) for name in fields),
        relation=relation(mapping),
        source=_SOURCE,
        window=in_day,
        order=_order(fields, oids, values),
    )
    fingerprint = _FINGERPRINT.format(
        columns=sql.SQL(", ").join(values[name] for name in fields),
        relation=relation(mapping),
        source=_SOURCE,
        window=in_day,
    )
    return DayStatement(query, fingerprint, _parameters(mapping, window), fields)


def _checked(wanted: Mapping[str, str], found: list[tuple[str, int]], mapping: SourceMapping) -> dict[str, int]:
    def problems(oids: Mapping[str, int]) -> list[str]:
        judged = (_unreadable(name, column, oids[name], mapping) for name, column in wanted.items())
        unreadable = [problem for problem in judged if problem is not None]
        if mapping.sold_at_zone is not None and not any(oid in _LOCAL for oid in oids.values()):
            unreadable.append("sold_at_zone is set, but the column stores its time zone itself")
        return unreadable

    return kinds_of(wanted, found, problems)


def _unreadable(name: str, column: str, oid: int, mapping: SourceMapping) -> str | None:
    known = types.get(oid)
    kind = known.name if known is not None else f"of type {oid}"
    if name in {"sold_at", RECORDED_AT}:
        if oid in _LOCAL and mapping.sold_at_zone is None:
            return f"column {column} is {kind} without time zone; name its zone in sold_at_zone"
        if oid not in _LOCAL | _INSTANT:
            return f"column {column} is {kind}, expected timestamptz or timestamp"
    if name == "sold_price" and oid not in _PRICE:
        return f"column {column} is {kind}, expected numeric, float, integer or text"
    return None


def _value(name: str, column: sql.Identifier, oid: int) -> sql.Composable:
    """Return the column as we read it: instants as timestamptz, text as text, whatever its own type is.

    float4 travels as text, too: as binary 19.99 arrives as 19.989999771118164.
    """
    if oid in _LOCAL and name in {"sold_at", RECORDED_AT}:
        return sql.SQL("({} AT TIME ZONE %(zone)s::text)").format(column)
    if name in {"sold_at", RECORDED_AT} or oid in _TEXT or (name == "sold_price" and oid not in _FLOAT4):
        return column
    return sql.SQL("{}::text").format(column)


def _in_day(wanted: Mapping[str, str], oids: Mapping[str, int], values: Mapping[str, sql.Composable]) -> sql.Composed:
    """Half-open. A local column is also compared as it is stored, a day wider, so that its index serves."""
    column = sql.Identifier("source", wanted["sold_at"])
    sold = sql.SQL("{0} >= %(start)s AND {0} < %(end)s").format(values["sold_at"])
    if oids["sold_at"] in _LOCAL:
        sold += sql.SQL(" AND {0} >= %(local_start)s AND {0} < %(local_end)s").format(column)
    without = sql.SQL("{} IS NULL").format(column)
    if RECORDED_AT in values:
        recorded = sql.SQL("({0} >= %(start)s AND {0} < %(end)s OR {0} IS NULL)").format(values[RECORDED_AT])
        without += sql.SQL(" AND ") + recorded
    return sql.SQL("({}) OR ({})").format(sold, without)


def _order(fields: tuple[str, ...], oids: Mapping[str, int], values: Mapping[str, sql.Composable]) -> sql.Composed:
    """Every mapped column, text by its bytes: the same order on every server, whatever its collation."""
    terms = []
    for name in dict.fromkeys((*_ORDER, *fields)):
        if name in fields:
            bytewise = name not in {"sold_at", "sold_price"} or (name == "sold_price" and oids[name] in _TEXT)
            terms.append(values[name] + sql.SQL(' COLLATE "C" NULLS LAST' if bytewise else " NULLS LAST"))
    return sql.SQL(", ").join(terms)


def _parameters(mapping: SourceMapping, window: DayWindow) -> dict[str, datetime | str | None]:
    return {
        "start": window.start,
        "end": window.end,
        "zone": mapping.sold_at_zone,
        "local_start": window.start.replace(tzinfo=None) - _LONGEST_OFFSET,
        "local_end": window.end.replace(tzinfo=None) + _LONGEST_OFFSET,
    }
