"""A whole export in memory: the ports of every stage, the days they hold, and a backfill over them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.calendar import DayWindow, Hemisphere
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA, VECTOR
from salesintel_dagster.domain.ports import DayScope, SourceDay
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.domain.sale import RowRules, SourceRow
from salesintel_dagster.flows.export.backfill import Backfill
from salesintel_dagster.flows.export.day import STAGES, ExportParts, ExportRules
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster.flows.export.images import ImageLimits
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.run import TITAN_EMBEDDINGS
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder
from salesintel_dagster_tests.fakes.images import ScriptedImages, fetched
from salesintel_dagster_tests.fakes.metrics import InMemoryMetrics
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import RULES, TENANT, InMemorySaleSource, sale_row
from salesintel_dagster_tests.fakes.spend import InMemorySpendLedger

ALL_STAGES = frozenset(STAGES)
ALL_CHECKS = frozenset(promise.name for promise in promises(1024))


def export_rules(**changed: object) -> ExportRules:
    retry = RetryPolicy()
    limits = EmbeddingLimits(2, CallBudget(10_000), retry)
    rules = ExportRules(ImageLimits(2, 2, retry), limits, Hemisphere.NORTH, 0.05, 0.5)
    return replace(rules, **changed)


class PoisonedSource(InMemorySaleSource):
    """A source that cannot give some days: `poison[day]` is raised instead."""

    def __init__(self, rows: Sequence[SourceRow] = (), rules: RowRules = RULES) -> None:
        super().__init__(rows, rules)
        self.poison: dict[date, Exception] = {}

    @contextmanager
    def read(self, window: DayWindow, deadline_seconds: float = SOURCE_RETRY.deadline_seconds) -> Iterator[SourceDay]:
        with super().read(window, deadline_seconds) as day:
            if window.day in self.poison:
                raise self.poison[window.day]
            yield day


class SpoilingStore(InMemoryObjectStore):
    """A store into which a hand plants bad vectors: staged embeddings of `spoilt` days lose their last value."""

    def __init__(self) -> None:
        super().__init__()
        self.spoilt: set[date] = set()

    def put(self, key: str, body: bytes | Path, content_type: str) -> None:
        super().put(key, body, content_type)
        for day in self.spoilt:
            if key == _embeddings_of(day):
                self.spoil(day)

    def spoil(self, day: date) -> None:
        """Plant bad vectors into a day that is staged already."""
        self.objects[_embeddings_of(day)] = _with_short_vectors(self.objects[_embeddings_of(day)])


def _embeddings_of(day: date) -> str:
    return f"staging/smartgo/{TITAN_EMBEDDINGS}/{day}.parquet"


def _with_short_vectors(parquet: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(parquet))
    short = pa.array([vector[:-1] for vector in table["embedding_vector"].to_pylist()], VECTOR)
    spoilt = table.set_column(
        table.schema.get_field_index("embedding_vector"), EMBEDDING_SCHEMA.field("embedding_vector"), short
    )
    out = io.BytesIO()
    pq.write_table(spoilt, out)
    return out.getvalue()


@dataclass
class FakeExport:
    """The ports in memory. `sell(day, n)` puts n sales of the day into the source, each with a picture of its own.

    Sale ids are `S-` and a number that goes on over all days. `said` are the lines that a backfill logged.
    """

    source: PoisonedSource = field(default_factory=PoisonedSource)
    images: ScriptedImages = field(default_factory=ScriptedImages)
    embedder: ScriptedEmbedder = field(default_factory=ScriptedEmbedder)
    store: SpoilingStore = field(default_factory=SpoilingStore)
    table: InMemorySalesTable = field(default_factory=InMemorySalesTable)
    ledger: InMemoryProgressLedger = field(default_factory=InMemoryProgressLedger)
    spend: InMemorySpendLedger = field(default_factory=InMemorySpendLedger)
    metrics: InMemoryMetrics = field(default_factory=InMemoryMetrics)
    said: list[str] = field(default_factory=list)

    def sell(self, day: date, count: int, **changed: object) -> list[str]:
        first = len(self.source.rows) + 1
        rows = [
            sale_row(datetime.combine(day, time(9), UTC) + timedelta(minutes=n), n, **changed)
            for n in range(first, first + count)
        ]
        for number, row in enumerate(rows, first):
            self.images.by_url[str(row["image_url"])] = [fetched(number)]
        self.source.rows += rows
        return [str(row["sale_id"]) for row in rows]

    @property
    def parts(self) -> ExportParts:
        return ExportParts(self.source, self.images, self.embedder, self.store, self.table)

    @property
    def staged(self) -> StagedDays:
        return StagedDays(self.store, "smartgo")

    def backfill(
        self, rules: ExportRules | None = None, *, run_id: str = "run-1", clock: Clock | None = None, zone: str = "UTC"
    ) -> Backfill:
        return Backfill(
            self.parts,
            rules or export_rules(),
            self.ledger,
            ZoneInfo(zone),
            run_id,
            clock or held_clock(),
            self.said.append,
            self.metrics,
        )

    def run(self, *days: date, checks: Iterable[str] = ()) -> list[object]:
        """Run the whole export of the days and return what it yielded, without the days."""
        return [step for _, step in self.backfill().run(days, ALL_STAGES, frozenset(checks))]

    def rows_of(self, day: date) -> list[dict[str, object]]:
        return [row for row in self.table.rows.to_pylist() if row["sold_date"] == day]


def scope_of(day: date) -> DayScope:
    return DayScope(day, (TENANT,), "smartgo")
