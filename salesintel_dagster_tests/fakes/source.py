"""The sales source in memory: the rows of one table, failures on demand, and rows to put into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import SourceError
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource, SourceDay
from salesintel_dagster.domain.retry import SOURCE_RETRY
from salesintel_dagster.domain.sale import SOURCE_FIELDS, RowRules, SourceRow

TENANT = "carousel-labs"
RULES = RowRules(frozenset({TENANT}), "EUR")


class InMemorySaleSource(SaleSource):
    """`rows` is the table; a row may have a `recorded_at` beside our fields. `reads` and `fingerprints`
    list the windows asked for, `deadlines` the seconds that each reading was given.

    `fail(SourceUnavailable("down"), after_blocks=1)` makes the next reading break after its first block.
    """

    def __init__(self, rows: Sequence[SourceRow] = (), rules: RowRules = RULES) -> None:
        self.rows = list(rows)
        self.reads: list[DayWindow] = []
        self.deadlines: list[float] = []
        self.fingerprints: list[DayWindow] = []
        self._rules = rules
        self._failures: list[tuple[int, SourceError]] = []

    @property
    def rules(self) -> RowRules:
        return self._rules

    def fail(self, error: SourceError, *, after_blocks: int = 0) -> None:
        self._failures.append((after_blocks, error))

    @contextmanager
    def read(self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds) -> Iterator[SourceDay]:
        self.reads.append(window)
        self.deadlines.append(deadline_seconds)
        after, error = self._failures.pop(0) if self._failures else (0, None)
        if error is not None and after == 0:
            raise error
        chosen = sorted((row for row in self.rows if _belongs(row, window)), key=_order)
        rows = [{name: row[name] for name in SOURCE_FIELDS if name in row} for row in chosen]
        yield SourceDay(
            _blocks(rows, after, error), {"source": "memory", "rows": str(len(self.rows))}, _fingerprint(rows)
        )

    def fingerprint(
        self,
        window: DayWindow,
        deadline_seconds: float = SOURCE_RETRY.deadline_seconds,  # noqa: ARG002 - memory answers at once
    ) -> SourceFingerprint:
        self.fingerprints.append(window)
        _, error = self._failures.pop(0) if self._failures else (0, None)
        if error is not None:
            raise error
        return _fingerprint(row for row in self.rows if _belongs(row, window))


def _fingerprint(rows: Iterable[SourceRow]) -> SourceFingerprint:
    hashes = [sha256(repr([row.get(name) for name in SOURCE_FIELDS]).encode()).digest()[:16] for row in rows]
    return SourceFingerprint(len(hashes), f"{sum(int.from_bytes(h) for h in hashes) % 2**128:032x}")


def _belongs(row: SourceRow, window: DayWindow) -> bool:
    at = row["sold_at"] if row["sold_at"] is not None else row.get("recorded_at")
    return at is None or (isinstance(at, datetime) and window.start <= at < window.end)


def _order(row: SourceRow) -> tuple[tuple[bool, str], ...]:
    def key(value: object) -> tuple[bool, str]:
        text = value.isoformat(timespec="microseconds") if isinstance(value, datetime) else str(value)
        return (value is None, text)

    return tuple(key(row.get(name)) for name in ("sold_at", "sale_id", "product_id", "sold_price", *SOURCE_FIELDS))


def _blocks(rows: list[SourceRow], after: int, error: SourceError | None) -> Iterator[list[SourceRow]]:
    for index, start in enumerate(range(0, len(rows), BATCH_ROWS)):
        if error is not None and index == after:
            raise error
        yield rows[start : start + BATCH_ROWS]
    if error is not None:
        raise error


def sale_row(sold_at: datetime | None, number: int = 1, **changed: object) -> dict[str, object]:
    """Make a good row of the source; `changed` sets single fields."""
    return {
        "sale_id": f"S-{number:06d}",
        "product_id": f"P-{number:06d}",
        "tenant_id": TENANT,
        "category": "shoes",
        "brand": "Acme",
        "condition": "Very good",
        "sold_price": Decimal("19.90"),
        "currency": "EUR",
        "sold_at": sold_at,
        "image_url": f"https://images.example/{number}.jpg",
    } | changed
