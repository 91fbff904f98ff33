"""Nine wrong ways to write the sync. Each looks reasonable, each loses or doubles a sale; the harness must see it.

They are variants of the true flow: another order of its steps, or another port in the place of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from salesintel_dagster.adapters.history_table import IcebergHistoryTable, months_of
from salesintel_dagster.adapters.sales.items import sale_item
from salesintel_dagster.adapters.sales.table import ConditionFailed
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.domain.keyed_table import KeyedCommit, KeyedTable
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.sale_event import SaleEvent
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import PutOutcome, PutResult
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.batch import MicroBatch
from salesintel_dagster.flows.sync.parts import SyncParts
from salesintel_dagster.flows.sync.pending import Pending


class ReceiptBeforeIceberg(MicroBatch):
    """Step 6 before step 5."""

    def committed(self, pending: Sequence[Pending]) -> list[Pending]:
        self.receipted(pending)
        return super().committed(pending)


class DeleteBeforeCommit(MicroBatch):
    """Step 7 before step 5."""

    def committed(self, pending: Sequence[Pending]) -> list[Pending]:
        self.deleted(one for each in pending for one in each.messages)
        return super().committed(pending)


class MarkFirst(MicroBatch):
    """The original order: mark as processed, then write."""

    def answered_by_receipt(self, pending: Sequence[Pending]) -> list[Pending]:
        rest = super().answered_by_receipt(pending)
        self.receipted(rest)
        return rest


class SwallowedErrors(MicroBatch):
    """A commit that fails is logged, and the batch goes on."""

    def committed(self, pending: Sequence[Pending]) -> list[Pending]:
        with suppress(SalesIntelError):
            return super().committed(pending)
        return list(pending)


class OnlyNewInDynamo(MicroBatch):
    """Only the sales that step 4 created go on to step 5; the others are taken for done."""

    def entered_in_ledger(self, pending: Sequence[Pending]) -> list[Pending]:
        known = {one.event.identity for one in pending if self._is_there(one.event)}
        entered = super().entered_in_ledger(pending)
        done = [one for one in entered if one.event.identity in known]
        self.receipted(done)
        self.deleted(one for each in done for one in each.messages)
        return [one for one in entered if one.event.identity not in known]

    def _is_there(self, event: SaleEvent) -> bool:
        return self.parts.ledger.by_sale_id(CallerContext(event.identity.tenant_id), event.identity.sale_id) is not None


class OtherWrites(KeyedTable):
    """Writes by one of pyiceberg's convenient ways; reads as the true table does."""

    def __init__(self, true: KeyedTable) -> None:
        assert isinstance(true, IcebergHistoryTable)
        self.true = true
        self.attempts = true._attempts

    def write(self, table: Any, rows: pa.Table) -> None:  # noqa: ANN401 - pyiceberg's
        raise NotImplementedError

    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:  # noqa: ARG002 - the port's
        def attempt() -> None:
            table = self.true._load()
            self.write(table, rows.cast(table.schema().as_arrow()))

        tries, _ = self.attempts.until_done(attempt)
        return KeyedCommit(1, rows.num_rows, 0, {}, months_of(rows), tries, 0.0)

    def of_day(self, tenant_id: str, day: Any) -> Mapping[str, str]:  # noqa: ANN401 - the port's
        return self.true.of_day(tenant_id, day)

    def days_of(self, tenant_id: str, sale_ids: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the port's
        return self.true.days_of(tenant_id, sale_ids)

    def rows_of(self, tenant_id: str, day: Any, sale_ids: Any) -> pa.Table:  # noqa: ANN401 - the port's
        return self.true.rows_of(tenant_id, day, sale_ids)


class PlainAppend(OtherWrites):
    def write(self, table: Any, rows: pa.Table) -> None:  # noqa: ANN401 - pyiceberg's
        table.append(rows)


class Upsert(OtherWrites):
    def write(self, table: Any, rows: pa.Table) -> None:  # noqa: ANN401 - pyiceberg's
        table.upsert(rows, join_cols=["tenant_id", "sale_id"])


class AntiJoinAndAppend(OtherWrites):
    def write(self, table: Any, rows: pa.Table) -> None:  # noqa: ANN401 - pyiceberg's
        held = keys_of(table.scan(selected_fields=("tenant_id", "sale_id")).to_arrow())
        missing = rows.filter(pa.array([key not in held for key in keys_of(rows)], pa.bool_()))
        if missing.num_rows:
            table.append(missing)


def keys_of(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["tenant_id"].to_pylist(), rows["sale_id"].to_pylist(), strict=True))


class NoGuard:
    """A ledger that writes the sale's item alone, on condition that it is not there."""

    def __init__(self, true: Any) -> None:  # noqa: ANN401 - the DynamoDB repository
        self.true = true

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the repository has
        return getattr(self.true, name)

    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        context.require(record.tenant)
        item = sale_item(stored(record, 1), self.true._shards.for_writing())
        try:
            self.true._table.ask("put_item", Item=item, ConditionExpression="attribute_not_exists(PK)")
        except ConditionFailed:
            held = self.true.get(context, record.key)
            same = held.record.payload_hash == record.payload_hash
            return PutResult(PutOutcome.DUPLICATE if same else PutOutcome.CONFLICT, held.record.payload_hash)
        return PutResult(PutOutcome.CREATED, record.payload_hash)


def with_table(kind: type[OtherWrites]) -> Any:  # noqa: ANN401 - a variant of the parts
    return lambda parts: replace(parts, table=kind(parts.table))


def without_guard(parts: SyncParts) -> SyncParts:
    return replace(parts, ledger=NoGuard(parts.ledger))  # type: ignore[arg-type]  # stands in for the whole door


MUTANTS: dict[str, dict[str, Any]] = {
    "receipt before Iceberg": {"batch": ReceiptBeforeIceberg},
    "delete before commit": {"batch": DeleteBeforeCommit},
    "mark first": {"batch": MarkFirst},
    "upsert": {"parts": with_table(Upsert)},
    "anti-join and append": {"parts": with_table(AntiJoinAndAppend)},
    "plain append": {"parts": with_table(PlainAppend)},
    "no guard": {"parts": without_guard},
    "swallowed errors": {"batch": SwallowedErrors},
    "only what is new in DynamoDB": {"batch": OnlyNewInDynamo},
}
