"""Both stores side by side, day by day, and what one lacks given back by the other.

A sale is in the sales table moments before it is in `sales_history`: what differs is looked at again before it
counts. A day that the sales table has forgotten, two years after its sales, cannot be compared.

Neither store knows all that an event says: the vector, its image and the condition's own words are in `sales_history`
alone, the vector's place in the sales table alone. So what a repair writes yields to the event itself, whenever that
comes: nobody has to put dead letters back first. Its receipt goes before the repair, as it says that both stores have
all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.history_rows import Ingestion, history_rows
from salesintel_dagster.domain.keyed_table import KeyedTable
from salesintel_dagster.domain.receipts import Receipts
from salesintel_dagster.domain.reconciliation import DayComparison, compared, event_of, records_of
from salesintel_dagster.domain.retention import is_expired, ttl_of
from salesintel_dagster.domain.sale_event import SaleIdentity
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import CorrectionOutcome, PutOutcome, SalesRepository
from salesintel_dagster.domain.tenancy import CallerContext

SETTLE_SECONDS = 30.0
"""A micro-batch takes seconds from one store to the other."""
REPAIR_PROPERTY = "salesintel.repair"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: rows given to `sales_history`, sales given to the sales table, sales left for a person."""

    to_table: int = 0
    to_ledger: int = 0
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares and repairs. Any number of workers may go on writing meanwhile."""

    ledger: SalesRepository
    table: KeyedTable
    receipts: Receipts
    clock: Clock
    settle_seconds: float = SETTLE_SECONDS

    def compare(self, tenants: Iterable[str], days: Iterable[date]) -> list[DayComparison]:
        """Return each tenant's days. Raises DuplicateKeys, SalesUnavailable, TableUnavailable."""
        asked = [(tenant, day) for day in days for tenant in sorted(tenants) if not self._forgotten(day)]
        found = [self._compare(*one) for one in asked]
        if any(one.differences for one in found):
            self.clock.sleep(self.settle_seconds)
        return [one.still(self._compare(one.tenant_id, one.day)) if one.differences else one for one in found]

    def repair(self, comparison: DayComparison, run_id: str) -> Repaired:
        """Give each side what it lacks; of two payloads of a sale the higher version stands. Running it twice is safe.

        Left are two payloads of one version, and a sale that somebody has moved to another day by hand: nobody but a
        person can tell which is right.
        """
        context = CallerContext(comparison.tenant_id)
        here, there = comparison.only_in_table, comparison.only_in_ledger
        self.receipts.forget(
            [SaleIdentity(comparison.tenant_id, one) for one in (*here, *there, *comparison.other_payload)]
        )
        rows = self.table.rows_of(comparison.tenant_id, comparison.day, (*here, *comparison.other_payload))
        given = [(record.sale_id, self._entered(context, record)) for record in records_of(rows)]
        written, not_written = self._written(list(self._held(context, (*there, *comparison.other_payload))), run_id)
        left = {*not_written, *(sale_id for sale_id, entered in given if entered is None)}
        return Repaired(written, sum(1 for _, entered in given if entered), tuple(sorted(left)))

    def _compare(self, tenant_id: str, day: date) -> DayComparison:
        ledger = self.ledger.of_day(CallerContext(tenant_id), day)
        table = self.table.of_day(tenant_id, day)
        return compared(tenant_id, day, {one.sale_id: one.payload_hash for one in ledger}, table)

    def _held(self, context: CallerContext, sale_ids: Iterable[str]) -> Iterator[SaleRecord]:
        for sale_id in sale_ids:
            held = self.ledger.by_sale_id(context, sale_id)
            if held is not None:
                yield held.record

    def _entered(self, context: CallerContext, record: SaleRecord) -> bool | None:
        """Tell whether the sales table was given the record; None where it holds what a person must judge."""
        put = self.ledger.put(context, record)
        if put.outcome is PutOutcome.CREATED:
            return True
        if put.outcome is PutOutcome.CONFLICT:
            corrected = self.ledger.correct(context, record).outcome
            return None if corrected is CorrectionOutcome.CONFLICT else corrected is CorrectionOutcome.APPLIED
        held = self.ledger.by_sale_id(context, record.sale_id)
        return None if held is not None and held.record.sold_date != record.sold_date else False

    def _written(self, records: list[SaleRecord], run_id: str) -> tuple[int, set[str]]:
        """Return how many rows were written, and the sales of those that only a person can judge.

        The table finds a sale by its month: a row in another month would be a second one of the sale.
        """
        if not records:
            return 0, set()
        days = self.table.days_of(records[0].tenant, [one.sale_id for one in records])
        moved = {
            one.sale_id for one in records if _month(days.get(one.sale_id, one.sold_date)) != _month(one.sold_date)
        }
        events = [event_of(record) for record in records if record.sale_id not in moved]
        if not events:
            return 0, moved
        rows = history_rows(events, Ingestion(run_id, self.clock.now(), repaired=True))
        commit = self.table.write_new(rows, {"salesintel.run-id": run_id, REPAIR_PROPERTY: "reconcile"})
        return commit.written, moved | {identity.sale_id for identity in commit.conflicts}

    def _forgotten(self, day: date) -> bool:
        return is_expired(ttl_of(day), self.clock.now())


def _month(day: date) -> tuple[int, int]:
    return day.year, day.month
