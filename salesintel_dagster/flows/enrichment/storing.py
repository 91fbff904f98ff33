"""What was paid for, into the table: found again after a death or a failure of the table, and never bought twice.

Rows that the table does not take are kept in the ledger before their batch waits, so a later round only writes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from salesintel_dagster.domain.enrichment.batch import Batch, Reason, State
from salesintel_dagster.domain.enrichment.facts import ProductFacts
from salesintel_dagster.domain.enrichment.job import job_of
from salesintel_dagster.domain.enrichment.ports import EnrichmentTable, PaidRows
from salesintel_dagster.domain.enrichment.product import LookUpKey
from salesintel_dagster.domain.enrichment.rows import Row, RowSource, row, table_of
from salesintel_dagster.domain.errors import TableError
from salesintel_dagster.flows.enrichment.claims import Held
from salesintel_dagster.flows.enrichment.requests import Outcome, open_products

RUN_PROPERTY, BATCHES_PROPERTY = "salesintel.run-id", "salesintel.batches"
_WRITTEN = ("product_id", "job_id", "enriched_at")


@dataclass(frozen=True, slots=True)
class Found:
    """Batches with what was paid for them earlier; `unknown` ones of which the table could not tell, and why."""

    held: list[Held]
    unknown: list[Held]
    error: TableError | None = None


@dataclass(frozen=True, slots=True)
class Storing:
    """Writes the rows of one run; `provider` is named in each."""

    table: EnrichmentTable
    paid: PaidRows
    provider: str
    run_id: str

    def found(self, held: Sequence[Held]) -> Found:
        """Look for what was paid for: a silent owner's rows in the table, and rows that the table did not take.

        Raises LedgerUnavailable.
        """
        silent = [one for one in held if one.taken_over]
        try:
            written = self._written(silent)
        except TableError as error:
            return Found([self._with_paid(one) for one in held if not one.taken_over], silent, error)
        return Found([self._with_paid(_done(one, written)) for one in held], [])

    def _written(self, held: Iterable[Held]) -> dict[tuple[str, str, str], datetime]:
        """Return when the rows of these batches' products were enriched, by tenant, job and product."""
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for one in held:
            wanted[one.batch.key.tenant].update(product.product_id for product, _ in open_products(one.batch))
        return {
            (tenant, found["job_id"], found["product_id"]): found["enriched_at"]
            for tenant, products in wanted.items()
            for found in self.table.held(tenant, products, _WRITTEN).to_pylist()
        }

    def _with_paid(self, one: Held) -> Held:
        """Add the rows that the ledger keeps of the batch."""
        if not (one.taken_over or any(status.reason is Reason.STORE_FAILED for status in one.batch.statuses)):
            return one
        kept = {str(found["product_id"]): found for found in self.paid.of(one.batch.key).to_pylist()}
        paid = {
            product.product_id: kept[product.product_id]
            for product, _ in open_products(one.batch)
            if product.product_id in kept and _is_of(one.batch, kept[product.product_id]["enriched_at"])
        }
        return replace(one, paid=paid)

    def store(
        self, ours: Sequence[Held], outcomes: Mapping[LookUpKey, Outcome], asked_at: datetime
    ) -> tuple[int, TableError | None]:
        """Write the rows of batches in one commit; return their number, or what hindered it, the new rows being kept.

        Raises LedgerUnavailable.
        """
        new = {one.batch.key: self._new(one, outcomes, asked_at) for one in ours}
        rows = [
            *(found for one in ours for found in one.paid.values()),
            *(one for rows in new.values() for one in rows),
        ]
        if not rows:
            return 0, None
        properties = {RUN_PROPERTY: self.run_id, BATCHES_PROPERTY: ",".join(one.batch.key.batch_id for one in ours)}
        try:
            # Of two batches' rows of one product the later stands, as it would in the table.
            rows.sort(key=lambda one: cast("datetime", one["enriched_at"]))
            return self.table.merge(table_of(rows), properties).rows_written, None
        except TableError as error:
            for one in ours:
                if bought := new[one.batch.key]:
                    self.paid.keep(one.batch.key, table_of(bought))
            return 0, error

    def _new(self, one: Held, outcomes: Mapping[LookUpKey, Outcome], asked_at: datetime) -> list[Row]:
        key = one.batch.key
        source = RowSource(key.tenant, key.catalog_id, job_of(key.plan), self.provider, self.run_id, asked_at)
        return [
            row(source, product, facts)
            for product, _ in one.wanted
            if isinstance(facts := outcomes.get(product.key), ProductFacts)
        ]


def _done(one: Held, written: Mapping[tuple[str, str, str], datetime]) -> Held:
    """Return the batch with the products DONE whose rows are in the table."""
    key = one.batch.key
    if not one.taken_over:
        return one
    statuses = tuple(
        status.to(State.DONE)
        if status.state is State.RUNNING
        and _is_of(one.batch, written.get((key.tenant, job_of(key.plan), product.product_id)))
        else status
        for product, status in zip(one.batch.products, one.batch.statuses, strict=True)
    )
    return replace(one, batch=replace(one.batch, statuses=statuses))


def _is_of(batch: Batch, enriched_at: object) -> bool:
    """Tell whether a row was paid for by this batch, and not by one of the same name that has expired since."""
    return enriched_at is not None and cast("datetime", enriched_at) >= batch.created_at
