"""`sales_history` in memory, with failures on demand, and rows to put into one."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.errors import DuplicateKeys, RowsRefused, SchemaDrift, TableError
from salesintel_dagster.domain.history_rows import Ingestion, history_rows
from salesintel_dagster.domain.keyed_table import KeyedCommit, KeyedTable, Place, RowTold, TableMonth
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity, parse_event
from salesintel_dagster_tests.fakes.events import RULES, envelope, sold

INGESTION = Ingestion("run-1", datetime(2026, 11, 21, 3, tzinfo=UTC))


class InMemoryKeyedTable(KeyedTable):
    """`rows` is what is stored by identity; `commits` the properties of every commit that stood.

    `fail(CommitConflict("lost"))` makes the next write raise; `refused` are sale ids with the version
    whose row is not taken.
    """

    def __init__(self) -> None:
        self.rows: dict[SaleIdentity, dict[str, object]] = {}
        self.commits: list[dict[str, str]] = []
        self.refused: set[tuple[str, int]] = set()
        self._failures: deque[TableError] = deque()

    def fail(self, error: TableError, *, times: int = 1) -> None:
        self._failures.extend([error] * times)

    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:
        if rows.schema.names != HISTORY_SCHEMA.names:
            raise SchemaDrift("other columns")
        given = {SaleIdentity(row["tenant_id"], row["sale_id"]): row for row in rows.to_pylist()}
        if len(given) < rows.num_rows:
            raise DuplicateKeys("a sale id occurs more than once")
        if self._failures:
            raise self._failures.popleft()
        new, conflicts = [], {}
        for identity, row in given.items():
            held = self.rows.get(identity)
            place = _told(row).place(None if held is None else _told(held))
            if place in (Place.FREE, Place.TAKES):
                new.append((identity, row))
            elif held is not None and place is Place.CONFLICT:
                conflicts[identity] = str(held["payload_hash"])
        if any((row["sale_id"], row["event_version"]) in self.refused for _, row in new):
            raise RowsRefused("a value fits no column")
        self.rows.update(new)
        if new:
            self.commits.append(dict(properties))
        months = sorted({TableMonth(row["tenant_id"], row["year"], row["month"]) for _, row in new})
        held_count = rows.num_rows - len(new) - len(conflicts)
        snapshot = len(self.commits) if new else None
        return KeyedCommit(snapshot, len(new), held_count, conflicts, tuple(months), 1, 0.0)

    def of_day(self, tenant_id: str, day: date) -> Mapping[str, str]:
        return {
            identity.sale_id: str(row["payload_hash"])
            for identity, row in self.rows.items()
            if identity.tenant_id == tenant_id and row["sold_date"] == day
        }

    def days_of(self, tenant_id: str, sale_ids: Collection[str]) -> Mapping[str, date]:
        held = {sale_id: self.rows.get(SaleIdentity(tenant_id, sale_id)) for sale_id in sale_ids}
        return {sale_id: row["sold_date"] for sale_id, row in held.items() if row is not None}  # type: ignore[misc]

    def rows_of(self, tenant_id: str, day: date, sale_ids: Collection[str]) -> pa.Table:
        found = [
            row
            for identity, row in self.rows.items()
            if identity.tenant_id == tenant_id and identity.sale_id in sale_ids and row["sold_date"] == day
        ]
        return pa.Table.from_pylist(found, HISTORY_SCHEMA)


def _told(row: Mapping[str, Any]) -> RowTold:
    return RowTold(*(row[name] for name in RowTold._fields))


def sold_event(sale_id: str = "S-1", **changed: object) -> SaleEvent:
    found = parse_event(envelope(sold(sale_id, **changed)), RULES)
    assert isinstance(found, SaleEvent), found
    return found


def sold_rows(*events: SaleEvent, repaired: bool = False) -> pa.Table:
    return history_rows(events, replace(INGESTION, repaired=repaired))
