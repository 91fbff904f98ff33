"""Many sales at once by BatchWriteItem, in chunks of 25 sales: their sales first, their guards after.

BatchWriteItem takes no conditions, so what is there is read first and left alone. A guard is written only after its
sale: whatever dies in between is found without a guard by the next try and written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from salesintel_dagster.adapters.sales.items import (
    guard_item,
    guarded_key,
    is_live,
    key_of,
    sale_item,
    text_in,
)
from salesintel_dagster.adapters.sales.reading import DynamoReading, at_once
from salesintel_dagster.adapters.sales.table import BATCH_WRITE_ITEMS
from salesintel_dagster.domain.errors import BatchUnfinished, SaleRefused, SalesUnavailable, SaleUnreadable
from salesintel_dagster.domain.sale_changes import require_storable, stored
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import KeyPair, guard_key_pair, sale_key_pair
from salesintel_dagster.domain.sales_repository import BatchReport, RefusedSale
from salesintel_dagster.domain.tenancy import CallerContext


class DynamoLoading(DynamoReading):
    """The batch write."""

    def put_many(self, context: CallerContext, records: Iterable[SaleRecord]) -> BatchReport:
        """Write those that are not there; see SaleWriter."""
        sorted_out = _SortedOut()
        for record in records:
            context.require(record.tenant)
            sorted_out.take(record)
        new = list(sorted_out.new.values())
        chunks = [new[start : start + BATCH_WRITE_ITEMS] for start in range(0, len(new), BATCH_WRITE_ITEMS)]
        done = at_once(self._load, chunks)
        lost = [chunk.failure for chunk in done if chunk.failure is not None]
        if lost:
            raise BatchUnfinished(lost[0][0], tuple(sale_id for _, rest in lost for sale_id in rest))
        return BatchReport(
            created=sum(chunk.created for chunk in done),
            duplicates=sum(chunk.duplicates for chunk in done),
            repeated=sorted_out.repeated,
            conflicts=(*sorted_out.conflicts, *(one for chunk in done for one in chunk.conflicts)),
            refused=tuple(sorted_out.refused),
        )

    def _load(self, records: Sequence[SaleRecord]) -> _Loaded:
        """Load at most 25 distinct sales; a failure is a value, so that the other chunks go on."""
        try:
            loaded, absent = self._judged(records)
            sales = [stored(record, 1) for record in absent]
            if sales:
                shards = self._shards.for_writing()
                self._table.put_batch([sale_item(sale, shards) for sale in sales])
                self._table.put_batch([guard_item(sale) for sale in sales])
        except BatchUnfinished as error:
            return _Loaded(failure=(str(error), error.rest))
        except (SalesUnavailable, SaleRefused) as error:
            return _Loaded(failure=(str(error), tuple(record.sale_id for record in records)))
        return loaded

    def _judged(self, records: Sequence[SaleRecord]) -> tuple[_Loaded, list[SaleRecord]]:
        """Return what is there already, and the records that are to be written."""
        now = self._table.clock.now()
        keys = [pair for record in records for pair in (_guard(record), _sale(record))]
        items = self._table.get_batch([key_of(pair) for pair in keys])
        there = {KeyPair(item["PK"]["S"], item["SK"]["S"]): item for item in items if is_live(item, now)}
        absent: list[SaleRecord] = []
        conflicts: list[RefusedSale] = []
        for record in records:
            guard, sale = there.get(_guard(record)), there.get(_sale(record))
            try:
                if guard is not None and sale is None and guarded_key(guard) == record.key:
                    guard = None  # it leads to nothing: the sale was deleted by hand
                held = guard or sale
                held_hash = text_in(held, "payloadHash") if held is not None else record.payload_hash
            except SaleUnreadable as error:  # it stays as it is, and stops no other sale
                conflicts.append(RefusedSale(record.sale_id, str(error)))
                continue
            if held_hash != record.payload_hash:
                conflicts.append(_conflict(record.sale_id, held_hash))
            elif guard is None:
                absent.append(record)
        duplicates = len(records) - len(absent) - len(conflicts)
        return _Loaded(len(absent), duplicates, tuple(conflicts)), absent


@dataclass(frozen=True, slots=True)
class _Loaded:
    created: int = 0
    duplicates: int = 0
    conflicts: tuple[RefusedSale, ...] = ()
    failure: tuple[str, tuple[str, ...]] | None = None


@dataclass(slots=True)
class _SortedOut:
    """A batch by what it says of itself: each sale once, repetitions counted, contradictions and misfits told."""

    new: dict[str, SaleRecord] = field(default_factory=dict)
    repeated: int = 0
    conflicts: list[RefusedSale] = field(default_factory=list)
    refused: list[RefusedSale] = field(default_factory=list)

    def take(self, record: SaleRecord) -> None:
        try:
            require_storable(record)
        except SaleRefused as error:
            self.refused.append(RefusedSale(record.sale_id, str(error)))
            return
        first = self.new.setdefault(record.sale_id, record)
        if first is record:
            return
        if first.payload_hash == record.payload_hash:
            self.repeated += 1
        else:
            self.conflicts.append(_conflict(record.sale_id, first.payload_hash))


def _guard(record: SaleRecord) -> KeyPair:
    return guard_key_pair(record.tenant, record.sale_id)


def _sale(record: SaleRecord) -> KeyPair:
    return sale_key_pair(record.tenant, record.key)


def _conflict(sale_id: str, held: str) -> RefusedSale:
    return RefusedSale(sale_id, f"another payload is there: {held}")
