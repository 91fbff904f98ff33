"""The image stage over one day of sales, on a store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.columns import RAW_SCHEMA
from salesintel_dagster.domain.ports import DayScope, ImageFetcher, ObjectStore
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.images import ImageLimits, ImagesFetched, fetch_images
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, DayRun, ProgressReporter
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.fakes.images import EPOCH
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger

DAY = date(2026, 11, 20)
TENANT = "carousel-labs"
LIMITS = ImageLimits(5, 5, RetryPolicy())
Row = dict[str, object]


class Day:
    """One day's image stage on an in-memory store, with its lines and its progress to look at."""

    def __init__(self, *batches: Sequence[str | None], store: ObjectStore | None = None) -> None:
        self.store = store or InMemoryObjectStore()
        self.staged = StagedDays(self.store, "smartgo")
        self.lines: list[str] = []
        self.ledger = InMemoryProgressLedger()
        if batches:
            self.stage(*batches)

    def stage(self, *batches: Sequence[str | None], tenant: str = TENANT, product: str = "p") -> None:
        made = [raw_rows(urls, f"s{n}", tenant, product) for n, urls in enumerate(batches)]
        self.staged.write(SALES_RAW, DAY, RAW_SCHEMA, iter(made))

    def run(
        self,
        fetcher: ImageFetcher,
        limits: ImageLimits = LIMITS,
        clock: Clock = SYSTEM_CLOCK,
        *,
        refetch: bool = False,
    ) -> ImagesFetched:
        progress = ProgressReporter(
            self.ledger, clock, self.lines.append, Progress(DAY, "r1", EPOCH, EPOCH, RunState.RUNNING, SALES_RAW)
        )
        scope = DayScope(DAY, (TENANT,), "smartgo")
        run = DayRun(day_window(DAY, ZoneInfo("UTC")), scope, "r1", clock, self.lines.append, progress)
        self.progress = progress
        own = replace(limits)  # each call is a run of its own, with a patience of its own
        return fetch_images(run, fetcher, self.store, self.staged, own, refetch=refetch)

    def batches(self) -> list[pa.RecordBatch]:
        with self.staged.batches(PRODUCT_IMAGES, DAY) as batches:
            return list(batches)

    def rows(self) -> list[Row]:
        return [row for batch in self.batches() for row in batch.to_pylist()]

    def images(self) -> list[str]:
        return list(self.store.keys("images/"))


def raw_rows(urls: Sequence[str | None], prefix: str, tenant: str, product: str) -> pa.RecordBatch:
    """Return sales with these image URLs; their ids are the prefix and a number."""
    rows = [
        {
            "sale_id": f"{prefix}-{n}",
            "product_id": product,
            "tenant_id": tenant,
            "category": "shoes",
            "condition": "good",
            "sold_price": Decimal("10.00"),
            "currency": "EUR",
            "currency_defaulted": False,
            "sold_at": datetime(2026, 11, 20, 12, tzinfo=UTC),
            "sold_date": DAY,
            "image_url": image_url,
        }
        for n, image_url in enumerate(urls)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW_SCHEMA)
