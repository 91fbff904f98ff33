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
from salesintel_dagster.domain.sales_repository import PutOutcome, SalesRepository
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

        Two payloads of one version are left: nobody but a person can tell which is right.
        """
        context = CallerContext(comparison.tenant_id)
        differing = (*comparison.only_in_ledger, *comparison.only_in_table, *comparison.other_payload)
        self.receipts.forget([SaleIdentity(comparison.tenant_id, sale_id) for sale_id in differing])
        missing = list(self._held(context, comparison.only_in_ledger))
        here = self.table.rows_of(comparison.tenant_id, comparison.day, comparison.only_in_table)
        to_ledger = [record for record in records_of(here) if self._entered(context, record)]
        both = {record.sale_id: record for record in self._held(context, comparison.other_payload)}
        rows = self.table.rows_of(comparison.tenant_id, comparison.day, comparison.other_payload)
        left = []
        for record in records_of(rows):
            held = both.get(record.sale_id)
            if held is None or held.event_version == record.event_version:
                left.append(record.sale_id)
            elif held.event_version > record.event_version:
                missing.append(held)
            else:
                self.ledger.correct(context, record)
                to_ledger.append(record)
        return Repaired(self._written(missing, run_id), len(to_ledger), tuple(left))

    def _compare(self, tenant_id: str, day: date) -> DayComparison:
        ledger = self.ledger.of_day(CallerContext(tenant_id), day)
        table = self.table.of_day(tenant_id, day)
        return compared(tenant_id, day, {one.sale_id: one.payload_hash for one in ledger}, table)

    def _held(self, context: CallerContext, sale_ids: Iterable[str]) -> Iterator[SaleRecord]:
        for sale_id in sale_ids:
            held = self.ledger.by_sale_id(context, sale_id)
            if held is not None:
                yield held.record

    def _entered(self, context: CallerContext, record: SaleRecord) -> bool:
        return self.ledger.put(context, record).outcome is not PutOutcome.CONFLICT

    def _written(self, records: list[SaleRecord], run_id: str) -> int:
        if not records:
            return 0
        rows = history_rows(
            [event_of(record) for record in records], Ingestion(run_id, self.clock.now(), repaired=True)
        )
        return self.table.write_new(rows, {"salesintel.run-id": run_id, REPAIR_PROPERTY: "reconcile"}).written

    def _forgotten(self, day: date) -> bool:
        return is_expired(ttl_of(day), self.clock.now())
