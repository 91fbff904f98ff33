"""Whether both stores hold the same sales of a tenant's day: ids and payload hashes, both ways. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pyarrow as pa

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.checks import Promise, Verdict, verdict
from salesintel_dagster.domain.sale import Sale
from salesintel_dagster.domain.sale_event import SaleEvent
from salesintel_dagster.domain.sale_record import SaleRecord

HISTORY_MATCHES_LEDGER = Promise(
    "sales_history_matches_ledger",
    "sales_history",
    "The sales of a day are the same in sales_history and in the sales table: ids and payload hashes, both ways",
)


_SAME_NAME = tuple(
    "sale_id product_id category brand condition currency sold_at sold_date source_system days_to_sell vendor_id "
    "description payload_hash event_version".split()
)
"""Columns of `sales_history` that are fields of a record under the same name."""


@dataclass(frozen=True, slots=True)
class DayComparison:
    """One tenant's day on both sides, and the sale ids that are not the same there, in order."""

    tenant_id: str
    day: date
    in_ledger: int
    in_table: int
    only_in_ledger: tuple[str, ...] = ()
    only_in_table: tuple[str, ...] = ()
    other_payload: tuple[str, ...] = ()

    @property
    def differences(self) -> int:
        """Sales that are not the same on both sides."""
        return len(self.only_in_ledger) + len(self.only_in_table) + len(self.other_payload)

    def offenders(self) -> list[str]:
        """Return every difference in words, as a report names it."""
        told = {
            "missing in sales_history": self.only_in_ledger,
            "missing in the sales table": self.only_in_table,
            "another payload": self.other_payload,
        }
        where = f"{self.tenant_id} {self.day}"
        return [f"{where} {sale_id}: {what}" for what, sale_ids in told.items() for sale_id in sale_ids]

    def still(self, later: DayComparison) -> DayComparison:
        """Return of a later comparison what differed in this one in the same way: the rest was under way."""
        return DayComparison(
            self.tenant_id,
            self.day,
            later.in_ledger,
            later.in_table,
            _both(self.only_in_ledger, later.only_in_ledger),
            _both(self.only_in_table, later.only_in_table),
            _both(self.other_payload, later.other_payload),
        )


def compared(tenant_id: str, day: date, ledger: Mapping[str, str], table: Mapping[str, str]) -> DayComparison:
    """Compare payload hashes by sale id."""
    return DayComparison(
        tenant_id,
        day,
        len(ledger),
        len(table),
        tuple(sorted(ledger.keys() - table.keys())),
        tuple(sorted(table.keys() - ledger.keys())),
        tuple(sorted(sale_id for sale_id in ledger.keys() & table.keys() if ledger[sale_id] != table[sale_id])),
    )


def judged(comparisons: Iterable[DayComparison]) -> Verdict:
    """Return whether all the days are the same on both sides, naming the first sales that are not."""
    days = list(comparisons)
    ledger, table = sum(one.in_ledger for one in days), sum(one.in_table for one in days)
    differences = sum(one.differences for one in days)
    return verdict(
        HISTORY_MATCHES_LEDGER,
        expected="the same sales on both sides",
        found=f"{differences} differences among {table} in sales_history and {ledger} in the sales table",
        offenders=[told for one in days for told in one.offenders()],
    )


def event_of(record: SaleRecord) -> SaleEvent:
    """Return what the sales table knows of an event: no vector, and the normalised condition for the raw one."""
    sale = Sale(
        sale_id=record.sale_id,
        product_id=record.product_id,
        tenant_id=record.tenant,
        category=record.category or "unknown",
        brand=record.brand,
        condition=record.condition,
        condition_raw=None,
        sold_price=record.sold_price,
        currency=record.currency,
        currency_defaulted=False,
        sold_at=record.sold_at,
        sold_date=record.sold_date,
        image_url=None,
    )
    return SaleEvent(sale, record, None, None, None, None)


def records_of(rows: pa.Table) -> list[SaleRecord]:
    """Return rows of `sales_history` as the sales table keeps them. Raises SaleRefused."""
    return [_record(row) for row in rows.drop_columns(["embedding_vector"]).to_pylist()]


def _record(row: Mapping[str, object]) -> SaleRecord:
    price, listed = row["sold_price"], row["listed_price"]
    return SaleRecord(
        tenant=str(row["tenant_id"]),
        sold_price=Decimal(str(price)),
        listed_price=None if listed is None else Decimal(str(listed)),
        season=Season(str(row["season"])),
        **{name: row[name] for name in _SAME_NAME},  # type: ignore[arg-type]  # the constructor judges every value
    )


def _both(before: tuple[str, ...], later: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(before) & set(later)))
