"""Rows of the source that became no sales, as the quarantine keeps them."""

from __future__ import annotations

from datetime import UTC, datetime

from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.flows.export.quarantine import QuarantineEntry
from salesintel_dagster_tests.fakes.source import sale_row

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
NO_PRICE = Rejection("PRICE_MISSING", "sold_price", "None", "a sale has a price")


def entry(number: int, rejection: Rejection = NO_PRICE, **changed: object) -> QuarantineEntry:
    """Return the sale `number` of NOON, rejected; `changed` are fields of its row."""
    return QuarantineEntry.of(rejection, sale_row(NOON, number, **changed))
