"""What the daily checks ask of `sales_history` as a whole, as a port. Answers are bounded, whatever the table holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import pyarrow as pa

CHECKED_DAYS = 7
OLDEST_CHECKED_DAY = 720
"""The sales table forgets a day after two years: it cannot be compared after that."""
MOST_NAMED = 1_000
"""Offenders that an answer lists at most."""


class HistoryFacts(ABC):
    """Reads only. A table that was not made yet has no rows."""

    @abstractmethod
    def repeated(self) -> list[str]:
        """Return `tenant/sale_id: rows` of sales that are in the table more than once. Raises TableError."""

    @abstractmethod
    def vectors(self, days: Sequence[date]) -> Iterator[pa.RecordBatch]:
        """Stream tenant_id, sale_id, embedding_vector of the days' rows. Raises TableUnavailable, SchemaDrift."""

    @abstractmethod
    def in_both_sources(self, days: Sequence[date]) -> list[str]:
        """Return `tenant/sale_id: day product, smartgo_sales has it as OTHER_ID` of the days' suspected duplicates.

        Suspected is a sale whose tenant, product, price, currency and date a row of `smartgo_sales` has too. Raises
        TableError.
        """


def days_to_check(today: date, jitter: float) -> list[date]:
    """Return the seven days before `today` and one older day, chosen by `jitter` in [0, 1)."""
    older = CHECKED_DAYS + 1 + int(jitter * (OLDEST_CHECKED_DAY - CHECKED_DAYS))
    return [today - timedelta(days=older), *(today - timedelta(days=n) for n in range(CHECKED_DAYS, 0, -1))]
