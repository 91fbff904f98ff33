"""Stage 1: the day's rows from the source, as valid sales in the staged file or as entries in the quarantine.

Every row read ends in exactly one place: `rows + quarantined + duplicates == read`. Memory is one batch of sales;
which ids came, each with the 64-bit hash of its content, lies on disk.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from operator import attrgetter

import pyarrow as pa

from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.columns import BATCH_ROWS, RAW_SCHEMA
from salesintel_dagster.domain.errors import EmptyReplacement, SourceRefused, SourceUnavailable
from salesintel_dagster.domain.fingerprint import FINGERPRINT_PROPERTY, SourceFingerprint
from salesintel_dagster.domain.outcome import Tally
from salesintel_dagster.domain.ports import SaleSource, SalesTable
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.domain.sale import Rejection, RowRules, Sale, SourceRow, parse_sale
from salesintel_dagster.flows.export.day_index import DayIndex, index_name
from salesintel_dagster.flows.export.quarantine import CONFLICT, Quarantine, QuarantineEntry, QuarantineWriter
from salesintel_dagster.flows.export.run import REPORT_SECONDS, SALES_RAW, DayRun
from salesintel_dagster.flows.export.staging import StagedDays

_HASH = struct.Struct("<q")

MAX_CONFLICTS_NAMED = 20
"""Conflicting ids named in the result; all of them are in the quarantine."""


@dataclass(frozen=True, slots=True)
class SalesRead:
    """What a day's reading came to. `conflicts` names the first `tenant/sale_id` that came with two contents.

    `price_sum` adds the prices of `rows` whatever their currency: a checksum against the table, not a turnover.
    `evidence` says how the source was asked; `bytes` is the size of the staged file.
    """

    rows: int
    read: int
    duplicates: int
    quarantined: Tally
    conflicts: tuple[str, ...]
    price_sum: Decimal
    evidence: Mapping[str, str]
    bytes: int
    seconds: float


def read_sales(  # noqa: PLR0913 - a stage names each port that it touches
    run: DayRun,
    source: SaleSource,
    staged: StagedDays,
    quarantine: Quarantine,
    table: SalesTable,
    *,
    allow_empty: bool,
    retry: RetryPolicy = SOURCE_RETRY,
) -> SalesRead:
    """Read the day from the source's snapshot, replacing its staged file and its quarantine.

    A reading that breaks leaves both as they were and begins anew, from a new snapshot, as `retry` allows.

    Raises EmptyReplacement, leaving the staged file as it was, when no sale came although the table has some for
    this day and `allow_empty` is not given; and what the source, the store and the table raise.
    """
    started = run.clock.monotonic()
    for tries in count(1):
        try:
            left = retry.deadline_seconds - (run.clock.monotonic() - started)
            return _read_once(run, source, staged, quarantine, table, allow_empty, started, left)
        except SourceRefused:
            raise
        except SourceUnavailable as error:
            wait = retry.wait_seconds(tries, run.clock.monotonic() - started, run.clock.jitter())
            if wait is None:
                raise
            run.say("Source unavailable, reading again", reason=f'"{error}"', wait_seconds=f"{wait:.1f}")
            run.clock.sleep(wait)
    raise AssertionError  # count has no end


def _read_once(  # noqa: PLR0913, PLR0917 - the words of `read_sales`, and what is left of its time
    run: DayRun,
    source: SaleSource,
    staged: StagedDays,
    quarantine: Quarantine,
    table: SalesTable,
    allow_empty: bool,  # noqa: FBT001 - same
    started: float,
    deadline_seconds: float,
) -> SalesRead:
    with (
        closing(DayIndex()) as seen,
        source.read(run.window, deadline_seconds) as day,
        quarantine.writer(run.window.day) as rejects,
    ):
        intake = _Intake(run.window, source.rules, seen)
        reading = _Reading(run, intake, rejects, table, allow_empty)
        file = staged.write(SALES_RAW, run.window.day, _schema(day.fingerprint), reading.batches(day.rows))
        evidence = dict(day.evidence)
    result = SalesRead(
        rows=file.rows,
        read=intake.read,
        duplicates=intake.duplicates,
        quarantined=Tally.of(intake.quarantined),
        conflicts=tuple(intake.conflicts),
        price_sum=intake.price_sum,
        evidence=evidence,
        bytes=file.bytes,
        seconds=run.clock.monotonic() - started,
    )
    run.say(
        "Found sales to export",
        sales=result.rows,
        quarantined=result.quarantined.total,
        duplicates=result.duplicates,
        seconds=f"{result.seconds:.1f}",
    )
    return result


def _schema(fingerprint: SourceFingerprint | None) -> pa.Schema:
    """Return RAW_SCHEMA with the reading's fingerprint: the file's rows and what they were made from are one object."""
    return RAW_SCHEMA if fingerprint is None else RAW_SCHEMA.with_metadata({FINGERPRINT_PROPERTY: fingerprint.text})


@dataclass(slots=True)
class _Intake:
    """Decides for each row: a new sale, an entry for the quarantine, or nothing (the same sale once more)."""

    window: DayWindow
    rules: RowRules
    seen: DayIndex
    read: int = 0
    duplicates: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    price_sum: Decimal = Decimal(0)

    @property
    def sales(self) -> int:
        """Rows that became sales so far."""
        return self.read - self.duplicates - self.quarantined.total()

    def take(self, row: SourceRow) -> Sale | QuarantineEntry | None:
        self.read += 1
        sale = parse_sale(row, self.rules, self.window)
        if isinstance(sale, Rejection):
            return self._refuse(sale, row)
        name, content = index_name(sale.tenant_id, sale.sale_id), _HASH.pack(hash(sale))
        first = self.seen.get(name)
        if first is None:
            self.seen.put(name, content)
            self.price_sum += sale.sold_price
            return sale
        if first == content:
            self.duplicates += 1
            return None
        if len(self.conflicts) < MAX_CONFLICTS_NAMED:
            self.conflicts.append(f"{sale.tenant_id}/{sale.sale_id}")
        return self._refuse(Rejection(CONFLICT, "sale_id", sale.sale_id, _CONFLICT_RULE), row)

    def _refuse(self, rejection: Rejection, row: SourceRow) -> QuarantineEntry:
        self.quarantined[rejection.code] += 1
        return QuarantineEntry.of(rejection, row)


@dataclass(slots=True)
class _Reading:
    """Turns the source's blocks of rows into batches of exactly BATCH_ROWS sales, the last one excepted."""

    run: DayRun
    intake: _Intake
    rejects: QuarantineWriter
    table: SalesTable
    allow_empty: bool
    _told_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._told_at = self.run.clock.monotonic()

    def batches(self, blocks: Iterator[list[SourceRow]]) -> Iterator[pa.RecordBatch]:
        """Yield the batches, then publish the quarantine. Raises EmptyReplacement after the last row."""
        waiting: list[Sale] = []
        for block in blocks:
            for row in block:
                taken = self.intake.take(row)
                if isinstance(taken, Sale):
                    waiting.append(taken)
                    if len(waiting) == BATCH_ROWS:
                        yield _batch(waiting)
                        waiting = []
                elif taken is not None:
                    self.rejects.add(taken)
            self._tell()
        if waiting:
            yield _batch(waiting)
        self._finish()

    def _finish(self) -> None:
        """Publish the quarantine, unless an empty reading is refused: then the last one that read rows stands."""
        kept = 0
        if not self.intake.sales and not self.allow_empty:
            kept = self.table.day_facts(self.run.scope).rows
        if self.intake.read or not kept:
            self.rejects.publish()
        if kept:
            raise EmptyReplacement(
                f"{self.run.window.day}: no sale in the source's {self.intake.read} rows, but the table has {kept} "
                "sales of that day; allow_empty replaces them"
            )

    def _tell(self) -> None:
        sales, quarantined = self.intake.sales, self.intake.quarantined.total()
        self.run.progress.update(stage=SALES_RAW, sales=sales, quarantined=quarantined)
        now = self.run.clock.monotonic()
        if now - self._told_at >= REPORT_SECONDS:
            self._told_at = now
            self.run.say("Reading sales", sales=sales, quarantined=quarantined)


_CONFLICT_RULE = "a sale id comes once, or again with the same content; the first row is kept"
_COLUMNS = [(attrgetter(column.name), column.type) for column in RAW_SCHEMA]


def _batch(sales: list[Sale]) -> pa.RecordBatch:
    arrays = [pa.array(list(map(value_of, sales)), kind) for value_of, kind in _COLUMNS]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)
