"""Ten years of daily commits with upkeep on: what a commit and an upkeep cost on day 30, 365 and 3,650.

Three tables of those ages stand in one SQL catalog over local files and are measured in turns, so that the machine's
other work meets all three alike. The calendar is moved (time-machine), and a file is as old as the day that wrote it.
While a table grows it is kept every `SPARSE_DAYS` days, and daily from `DAILY_BEFORE` days before it is measured, by
when nothing is left that daily upkeep would have taken sooner: ten years of daily upkeep take an hour.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import time_machine

from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.table_layout import NAMESPACE
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.domain.calendar import Hemisphere, quarter, season, season_year
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.ports import DayScope
from salesintel_dagster.domain.upkeep import UpkeepRules
from salesintel_dagster.flows.upkeep import look_after

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

AGES = (30, 365, 3_650)
FIRST_DAY = date(2016, 1, 1)
ROWS = 5
ROUNDS = 15
SPARSE_DAYS = 30
DAILY_BEFORE = 10
DAY_SECONDS = 86_400.0
RULES = UpkeepRules()
AIM = 1.3
"""A commit's time at the three ages, largest over smallest."""


@dataclass(frozen=True)
class _Spent:
    wall: float
    cpu: float


def _spent(act: Callable[[], object]) -> _Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return _Spent(time.perf_counter() - wall, time.process_time() - cpu)


def _rows(day: date) -> pa.RecordBatch:
    sold = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    told = {
        "product_id": "product",
        "tenant_id": "carousel-labs",
        "category": "dress",
        "sold_price": Decimal("10.50"),
        "currency": "EUR",
        "condition": "good",
        "currency_defaulted": False,
        "sold_at": sold,
        "sold_date": day,
        "season": season(day, Hemisphere.NORTH).value,
        "season_year": season_year(day),
        "quarter": quarter(day),
        "year": day.year,
        "month": day.month,
        "embedding_model": "bench",
        "embedding_dimension": 4,
        "embedding_vector": [0.1, 0.2, 0.3, 0.4],
        "embedding_status": "ok",
        "preprocess_version": "p1",
        "source_system": "smartgo",
        "ingestion_timestamp": sold,
        "run_id": "bench",
    }
    sales = [{**told, "sale_id": f"{day}-{n}"} for n in range(ROWS)]
    return pa.RecordBatch.from_pylist(sales, SALES_SCHEMA)


@dataclass
class _Aged:
    """One table that grows day by day, kept as the 05:00 UTC schedule keeps it."""

    catalog: Catalog
    folder: Path
    age: int
    days: int = 0
    commits: list[_Spent] = field(default_factory=list)
    upkeeps: list[_Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"sales_{self.age}"
        self.table = IcebergSalesTable(lambda: self.catalog, SYSTEM_CLOCK, name=self.name)
        self.keeper = IcebergTableKeeper(lambda: self.catalog, SYSTEM_CLOCK, self.name)
        self.place = self.folder / NAMESPACE / self.name

    def grow(self) -> None:
        while self.days < self.age:
            self.another_day(kept=self.days % SPARSE_DAYS == 0 or self.age - self.days <= DAILY_BEFORE)

    def another_day(self, *, kept: bool = True) -> None:
        """Commit the next day at 03:00 of the day after it, and keep the table at 05:00."""
        day = FIRST_DAY + timedelta(days=self.days)
        self.days += 1
        batch = _rows(day)
        scope = DayScope(day, ("carousel-labs",), "smartgo")
        morning = datetime(day.year, day.month, day.day, 3, tzinfo=UTC) + timedelta(days=1)
        with time_machine.travel(morning, tick=True):
            self.commits.append(
                _spent(lambda: self.table.replace_day(scope, lambda: iter([batch]), {}, allow_empty=False))
            )
        self._date_files(morning, self.place / "metadata", self._partition(day))
        if kept:
            with time_machine.travel(morning + timedelta(hours=2), tick=True):
                self.upkeeps.append(_spent(self._keep))
            self._date_files(morning, self.place / "metadata")

    def _keep(self) -> None:
        upkept = look_after(self.keeper, RULES, SYSTEM_CLOCK, dry_run=False)
        if upkept.failures:
            raise SystemExit("; ".join(upkept.failures))

    def _partition(self, day: date) -> Path:
        return self.place / "data" / "tenant_id=carousel-labs" / f"year={day.year}" / f"month={day.month}"

    def _date_files(self, at: datetime, *folders: Path) -> None:
        """Give what was just written the calendar's time: storage took the machine's."""
        stamp = at.timestamp()
        for entry in (found for folder in folders for found in os.scandir(folder)):
            if entry.stat().st_mtime > stamp + 2 * DAY_SECONDS:
                os.utime(entry.path, (stamp, stamp))

    def metadata(self) -> tuple[int, float]:
        """Return the metadata folder's files and megabytes."""
        sizes = [entry.stat().st_size for entry in os.scandir(self.place / "metadata")]
        return len(sizes), sum(sizes) / 1e6

    def facts(self) -> tuple[int, int]:
        """Return the table's snapshots and live manifests."""
        table = self.catalog.load_table((NAMESPACE, self.name))
        snapshot = table.current_snapshot()
        return len(table.metadata.snapshots), len(snapshot.manifests(table.io)) if snapshot else 0


def _median(spent: list[_Spent]) -> _Spent:
    return _Spent(statistics.median(one.wall for one in spent), statistics.median(one.cpu for one in spent))


def _tables(folder: Path) -> Iterator[_Aged]:
    catalog = open_catalog(
        "sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/lake", access=StorageAccess()
    )
    for age in AGES:
        aged = _Aged(catalog, folder / "lake", age)
        began = time.perf_counter()
        aged.grow()
        print(f"(day {age} reached after {time.perf_counter() - began:.0f} s)", flush=True)
        yield aged


def upkeep() -> None:
    """Print the table of docs/benchmarks.md."""
    print(f"\n### Daily commits of {ROWS} rows with upkeep on, SQL catalog, local files\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-") as name:
        tables = list(_tables(Path(name)))
        for aged in tables:
            aged.commits.clear()
            aged.upkeeps.clear()
        gc.collect()
        for turn in range(ROUNDS):
            for aged in tables if turn % 2 else reversed(tables):
                aged.another_day()
        _tell(tables)


def _tell(tables: list[_Aged]) -> None:
    print(
        "\n| day | commit ms | CPU ms | / day 30, wall, CPU | upkeep ms | metadata files | MB | snapshots | manifests |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    medians = [_median(aged.commits) for aged in tables]
    for aged, one in zip(tables, medians, strict=True):
        files, megabytes = aged.metadata()
        snapshots, manifests = aged.facts()
        ratios = f"{one.wall / medians[0].wall:.2f}, {one.cpu / medians[0].cpu:.2f}"
        print(
            f"| {aged.age} | {one.wall * 1000:.0f} | {one.cpu * 1000:.0f} | {ratios} "
            f"| {_median(aged.upkeeps).wall * 1000:.0f} | {files} | {megabytes:.2f} | {snapshots} | {manifests} |"
        )
    walls = [one.wall for one in medians]
    told = "within" if max(walls) / min(walls) <= AIM else "NOT within"
    print(f"\nLargest over smallest {max(walls) / min(walls):.2f}: {told} the aim of {AIM}.", flush=True)
