"""A catalog database that somebody holds: sqlite's exclusive lock, and what the sale table makes of it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.lakehouse import COMMIT_RETRY, IcebergSalesTable
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.domain.progress import RunState
from salesintel_dagster.flows.export.backfill import DayFailed
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import DAY, RUN, ids, rows

OUTAGE_SECONDS = 5.0
IMPATIENT = "?timeout=0.01"
"""sqlite itself waits 5 s for a lock: each try of ours would, and here the clock is held."""


class Lock:
    """Holds the catalog's database as another program would, from `take` until `release`."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)

    def take(self) -> None:
        self._connection.execute("BEGIN EXCLUSIVE")

    def release(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self.release()
        self._connection.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    uri = f"sqlite:///{tmp_path}/catalog.db{IMPATIENT}"
    opened = open_catalog("sql", uri=uri, warehouse=f"file://{tmp_path}/warehouse", access=StorageAccess())
    yield opened
    opened.close()


@pytest.fixture
def lock(catalog: Catalog, tmp_path: Path) -> Iterator[Lock]:  # noqa: ARG001 - the catalog makes the database
    held = Lock(tmp_path / "catalog.db")
    yield held
    held.close()


class Waits:
    """A clock that only sleeping moves; when it has come to `ends_at`, the lock is released."""

    def __init__(self, lock: Lock, ends_at: float = float("inf")) -> None:
        self.seconds = 0.0
        self._lock, self._ends_at = lock, ends_at

    @property
    def clock(self) -> Clock:
        return Clock(lambda: datetime(2026, 11, 21, 3, tzinfo=UTC), lambda: self.seconds, self._sleep, lambda: 0.5)

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self._ends_at:
            self._lock.release()


def test_d5_a_catalog_that_is_locked_for_five_seconds_is_waited_for(catalog: Catalog, lock: Lock):
    waits = Waits(lock, ends_at=OUTAGE_SECONDS)
    table = IcebergSalesTable(lambda: catalog, waits.clock)
    table.day_facts(DAY)
    lock.take()
    commit = table.replace_day(DAY, rows(sale_rows(DAY, 3)), RUN, allow_empty=False)
    assert commit.attempts > 1
    assert OUTAGE_SECONDS <= waits.seconds < COMMIT_RETRY.deadline_seconds
    assert len(ids(table, DAY)) == 3


def test_d5_one_that_stays_locked_fails_within_the_deadline_by_name_and_changes_nothing(catalog: Catalog, lock: Lock):
    waits = Waits(lock)
    table = IcebergSalesTable(lambda: catalog, waits.clock)
    table.replace_day(DAY, rows(sale_rows(DAY, 2)), RUN, allow_empty=False)
    before = ids(table, DAY)
    lock.take()
    with pytest.raises(TableUnavailable, match=r"out of reach: OperationalError: database is locked \(tried 6 times"):
        table.replace_day(DAY, rows(sale_rows(DAY, 3, first=50)), RUN, allow_empty=False)
    assert waits.seconds < COMMIT_RETRY.deadline_seconds
    lock.release()
    assert ids(table, DAY) == before


def test_d5_one_that_is_locked_when_it_is_first_opened_is_waited_for_too(tmp_path: Path, lock: Lock):
    waits = Waits(lock, ends_at=OUTAGE_SECONDS)
    uri = f"sqlite:///{tmp_path}/catalog.db{IMPATIENT}"
    opened: list[Catalog] = []

    def connect() -> Catalog:
        access = StorageAccess()
        opened.append(open_catalog("sql", uri=uri, warehouse=f"file://{tmp_path}/warehouse", access=access))
        return opened[-1]

    lock.take()
    table = IcebergSalesTable(connect, waits.clock)
    assert table.day_facts(DAY).rows == 0
    assert waits.seconds >= OUTAGE_SECONDS
    opened[-1].close()


def test_d5_an_export_that_meets_it_is_an_outage_and_the_day_is_done_by_the_next_run(catalog: Catalog, lock: Lock):
    day = date(2026, 11, 3)
    world, waits = FakeExport(), Waits(lock)
    world.sell(day, 4)
    world.table = IcebergSalesTable(lambda: catalog, waits.clock)  # type: ignore[assignment]
    world.table.day_facts(DAY)
    lock.take()
    steps = [step for _, step in world.backfill().run([day], ALL_STAGES, ALL_CHECKS)]
    [failed] = [step for step in steps if isinstance(step, DayFailed)]
    assert failed.outage
    assert "database is locked" in failed.reason
    newest = world.ledger.newest(day)
    assert newest is not None
    assert (newest.state, newest.error_count) == (RunState.FAILED, 1)
    lock.release()
    assert not any(isinstance(step, DayFailed) for step in world.run(day))
    assert world.table.day_facts(DAY).rows == 4
    assert len(world.embedder.calls) == 4, "nothing is paid for twice"


def test_d5_a_lock_in_real_time_is_outlasted(catalog: Catalog, lock: Lock):
    table = IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK)
    table.day_facts(DAY)
    lock.take()
    release = threading.Timer(0.7, lock.release)
    release.start()
    commit = table.replace_day(DAY, rows(sale_rows(DAY, 3)), RUN, allow_empty=False)
    release.join()
    assert (commit.rows_written, commit.attempts > 1) == (3, True)
