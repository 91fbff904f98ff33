"""Tables for the tests of upkeep: days of several files, every row of every snapshot, and a process that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import StaticTable

from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.domain.ports import DayScope
from salesintel_dagster.domain.upkeep import StepDone, Survey, UpkeepRules
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import RUN, SALES, rows

RULES = UpkeepRules(keep_snapshots=2, full_file_rows=100)
TWO = ("a", "b")
DAYS = [day_scope(day, *TWO) for day in ("2026-10-30", "2026-10-31", "2026-11-01")]

Row = tuple[str, str, str]


def later() -> datetime:
    """An instant at which all that was written until now is old."""
    return datetime.now(UTC) + timedelta(days=30)


def keeper_of(catalog: Catalog) -> IcebergTableKeeper:
    managed = catalog.properties.get("rest.signing-name") == "s3tables"
    return IcebergTableKeeper(lambda: catalog, held_clock(), SALES[1], managed=managed)


def survey(catalog: Catalog, now: datetime | None = None) -> Survey:
    found = keeper_of(catalog).survey(RULES, now or later())
    assert found is not None
    return found


def upkeep(catalog: Catalog) -> tuple[StepDone, StepDone, StepDone]:
    """Do all three steps, as if a month later."""
    keeper = keeper_of(catalog)
    return keeper.compact(RULES, later()), keeper.expire(RULES, later()), keeper.remove(RULES, later())


def forgetful(catalog: Catalog, versions: int = 3) -> None:
    """Let the table keep few older versions of its metadata: what they know of is soon unreferenced."""
    kept = {"write.metadata.previous-versions-max": str(versions)}
    with catalog.load_table(SALES).transaction() as transaction:
        transaction.set_properties(kept)


def scattered(catalog: Catalog, days: list[DayScope] | None = None, count: int = 8) -> None:
    """Write days in chunks of four rows: two small files a tenant and day, and a snapshot a chunk."""
    table = IcebergSalesTable(lambda: catalog, held_clock(), chunk_rows=4)
    for scope in days or DAYS:
        table.replace_day(scope, rows(sale_rows(scope, count)), RUN, allow_empty=False)


def replaced(catalog: Catalog, scope: DayScope, count: int, first: int = 0) -> int:
    """Replace a day as the export does; return how many attempts that took."""
    table = IcebergSalesTable(lambda: catalog, held_clock())
    return table.replace_day(scope, rows(sale_rows(scope, count, first=first)), RUN, allow_empty=False).attempts


def added(catalog: Catalog, scope: DayScope, count: int, first: int) -> None:
    """Add rows to a day, as another program may."""
    catalog.load_table(SALES).append(pa.Table.from_batches([sale_rows(scope, count, first=first)]))


def whole(catalog: Catalog) -> list[dict[str, Any]]:
    """Every value of every row, in order."""
    found = catalog.load_table(SALES).scan().to_arrow()
    return found.sort_by([("sold_date", "ascending"), ("tenant_id", "ascending"), ("sale_id", "ascending")]).to_pylist()


def keys(table: pa.Table) -> list[Row]:
    columns = (table[name].to_pylist() for name in ("sold_date", "tenant_id", "sale_id"))
    return sorted((str(day), tenant, sale) for day, tenant, sale in zip(*columns, strict=True))


def assert_every_retained_snapshot_can_be_read(catalog: Catalog) -> None:
    """Read each snapshot of the metadata and of each older version that it keeps; no row may be there twice."""
    table = catalog.load_table(SALES)
    versions = [table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)]
    seen: set[int] = set()
    for version in versions:
        past = StaticTable.from_metadata(version, dict(table.io.properties))
        for snapshot in past.metadata.snapshots:
            if snapshot.snapshot_id not in seen:
                seen.add(snapshot.snapshot_id)
                fields = ("sold_date", "tenant_id", "sale_id")
                found = keys(past.scan(snapshot_id=snapshot.snapshot_id, selected_fields=fields).to_arrow())
                assert len(found) == len(set(found))


class Died(BaseException):
    """The process is gone: nothing of ours may catch this."""


class Mortal:
    """Counts what a catalog's tables do to the world; dies at the n-th of it.

    Counted are the moments before each file is written or deleted, before each commit and after it.
    """

    def __init__(self, catalog: Catalog, dies_at: int | None = None) -> None:
        self.events = 0
        self._dies_at = dies_at
        self._catalog = catalog

    @contextmanager
    def watching(self) -> Iterator[Mortal]:
        commit, file_io = self._catalog.commit_table, self._catalog._load_file_io
        self._catalog.commit_table = self._around(commit, after=True)
        self._catalog._load_file_io = lambda *words, **named: self._mortal(file_io(*words, **named))
        try:
            yield self
        finally:
            self._catalog.commit_table, self._catalog._load_file_io = commit, file_io

    def _event(self) -> None:
        self.events += 1
        if self.events == self._dies_at:
            raise Died

    def _around(self, act: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def acting(*words: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            self._event()
            answer = act(*words, **named)
            if after:
                self._event()
            return answer

        return acting

    def _mortal(self, io: PyArrowFileIO) -> PyArrowFileIO:
        by_scheme = io.fs_by_scheme
        io.new_output = self._around(io.new_output)
        io.fs_by_scheme = lambda *words: _MortalFiles(by_scheme(*words), self._around)
        return io


class _MortalFiles:
    def __init__(self, filesystem: Any, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:  # noqa: ANN401 - pyarrow's
        self._filesystem = filesystem
        self.delete_file = around(filesystem.delete_file)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - same
        return getattr(self._filesystem, name)
