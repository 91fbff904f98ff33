from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ForbiddenError, UnauthorizedError
from pyiceberg.table import Table

from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import CommitConflict, DuplicateKeys, TableRefused, TableUnavailable
from salesintel_dagster.domain.ports import Commit, DayScope
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import (
    DAY,
    KINDS,
    RUN,
    SALES,
    Disturbed,
    every_snapshot,
    file_paths,
    ids,
    local_catalog,
    rows,
)


@pytest.fixture
def catalog(request: pytest.FixtureRequest) -> Iterator[Catalog]:
    opened = KINDS[request.param](request)
    yield opened
    opened.close()


@pytest.fixture
def table(catalog: Catalog) -> IcebergSalesTable:
    return IcebergSalesTable(lambda: catalog, held_clock())


def put(table: IcebergSalesTable, scope: DayScope, count: int, first: int = 0) -> Commit:
    return table.replace_day(scope, rows(sale_rows(scope, count, first=first)), RUN, allow_empty=False)


def first_time(action: Callable[[], object]) -> Callable[[int], None]:
    """Act at the first commit only: the action commits too."""

    def act(call: int) -> None:
        if call == 1:
            action()

    return act


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def assert_every_snapshot_is_unique(catalog: Catalog) -> None:
    for keys in every_snapshot(catalog):
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("catalog", KINDS, indirect=True)
class TestTwoWriters:
    @pytest.mark.parametrize("there_before", [0, 4], ids=["new day", "day with rows"])
    def test_the_loser_of_a_day_redoes_it_and_no_row_doubles(
        self, catalog: Catalog, table: IcebergSalesTable, there_before: int
    ) -> None:
        """A8, D1"""
        table.day_facts(DAY)
        if there_before:
            put(table, DAY, there_before, first=90)
        Disturbed(catalog, before=first_time(lambda: put(table, DAY, 3, first=50)))
        commit = put(table, DAY, 2)
        assert commit.attempts == 2
        assert commit.rows_replaced == 3
        assert ids(table, DAY) == ["sale-1103-0", "sale-1103-1"]
        assert_every_snapshot_is_unique(catalog)

    @pytest.mark.parametrize(
        "other",
        [
            day_scope("2026-11-04"),
            day_scope("2026-12-03"),
            day_scope("2026-11-03", "other"),
            day_scope("2026-11-03", source="carousel"),
        ],
        ids=["other day", "other month", "other tenant", "other source"],
    )
    def test_writers_of_different_scopes_both_commit_at_the_first_try(
        self, catalog: Catalog, table: IcebergSalesTable, other: DayScope
    ) -> None:
        """D2"""
        put(table, DAY, 4)
        Disturbed(catalog, before=first_time(lambda: put(table, other, 3, first=40)))
        commit = put(table, DAY, 2)
        assert commit.attempts == 1
        assert (table.day_facts(DAY).rows, table.day_facts(other).rows) == (2, 3)
        assert_every_snapshot_is_unique(catalog)

    def test_one_who_always_loses_says_so_and_changes_nothing(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        """A8"""
        winner = IcebergSalesTable(lambda: catalog, held_clock())
        loser = IcebergSalesTable(lambda: catalog, held_clock(), retry=RetryPolicy(2, 0.1, 60.0))
        put(table, DAY, 1)
        busy: list[int] = []

        def win(_: int) -> None:
            if not busy:
                busy.append(1)
                put(winner, DAY, 5, first=70)
                busy.clear()

        Disturbed(catalog, before=win)
        with pytest.raises(CommitConflict, match="3 times"):
            put(loser, DAY, 2)
        busy.append(1)
        assert ids(table, DAY)[0] == "sale-1103-70"
        assert_every_snapshot_is_unique(catalog)

    def test_writers_in_parallel_leave_each_day_once(self, catalog: Catalog) -> None:
        """A8, D2"""
        scopes = [day_scope(f"2026-11-0{day}") for day in (1, 2, 3, 3)]
        errors: list[BaseException] = []

        def write(scope: DayScope) -> None:
            try:
                put(IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK, retry=RetryPolicy(10, 0.05, 60.0)), scope, 20)
            except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
                errors.append(error)

        threads = [threading.Thread(target=write, args=(scope,)) for scope in scopes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        table = IcebergSalesTable(lambda: catalog, held_clock())
        assert [table.day_facts(scope).rows for scope in scopes[:3]] == [20, 20, 20]
        assert_every_snapshot_is_unique(catalog)

    def test_of_two_that_make_the_table_at_once_both_get_it(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        create = catalog.create_table

        def late(*words: object, **named: object) -> Table:
            catalog.create_table = create
            put(IcebergSalesTable(lambda: catalog, held_clock()), DAY, 3)
            return create(*words, **named)

        catalog.create_table = late
        assert put(table, DAY, 2).rows_replaced == 3


LOST_ANSWERS = (OSError("connection reset"), CommitFailedException("stale"), CommitStateUnknownException("504"))


@pytest.mark.parametrize("catalog", KINDS, indirect=True)
class TestALostAnswer:
    """D3: the commit landed and its answer did not come, or came as a refusal."""

    @pytest.mark.parametrize(
        "error,there_before", [(LOST_ANSWERS[0], 4), (LOST_ANSWERS[1], 0), (LOST_ANSWERS[1], 4)], ids=str
    )
    def test_a_commit_that_landed_counts_once(
        self, catalog: Catalog, table: IcebergSalesTable, there_before: int, error: Exception
    ) -> None:
        table.day_facts(DAY)
        if there_before:
            put(table, DAY, there_before, first=90)
        disturbed = Disturbed(catalog, after=first_time(raising(error)))
        commit = put(table, DAY, 3)
        assert (commit.attempts, disturbed.calls) == (1, 1)
        assert (commit.rows_written, commit.rows_replaced) == (3, there_before)
        assert ids(table, DAY) == ["sale-1103-0", "sale-1103-1", "sale-1103-2"]
        assert_every_snapshot_is_unique(catalog)

    @pytest.mark.parametrize("error", LOST_ANSWERS[::2], ids=str)
    def test_a_commit_that_did_not_land_is_made_again(
        self, catalog: Catalog, table: IcebergSalesTable, error: Exception
    ) -> None:
        put(table, DAY, 4, first=90)
        Disturbed(catalog, before=first_time(raising(error)))
        assert put(table, DAY, 3).rows_replaced == 4
        assert table.day_facts(DAY).rows == 3
        assert_every_snapshot_is_unique(catalog)

    @pytest.mark.parametrize("error", LOST_ANSWERS[:2], ids=str)
    def test_a_commit_whose_table_cannot_be_asked_is_recognised_later(
        self, catalog: Catalog, table: IcebergSalesTable, error: Exception
    ) -> None:
        put(table, DAY, 4, first=90)
        load = catalog.load_table

        def down(*_: object) -> None:
            catalog.load_table = load
            raise OSError("catalog is down")

        def lose() -> None:
            catalog.load_table = down
            raise error

        disturbed = Disturbed(catalog, after=first_time(lose))
        commit = put(table, DAY, 3)
        assert (commit.attempts, disturbed.calls) == (2, 1)
        assert (commit.rows_written, commit.rows_replaced) == (3, 4)
        assert table.day_facts(DAY).rows == 3
        assert_every_snapshot_is_unique(catalog)


@pytest.mark.parametrize("catalog", ["sqlite", "s3tables"], indirect=True)
class TestOneCommitADay:
    def test_other_days_files_stay_where_they_are(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        """A5, A6"""
        put(table, day_scope("2026-11-04"), 3)
        before = file_paths(catalog, "2026-11-04")
        for _ in range(5):
            put(table, DAY, 2)
        assert file_paths(catalog, "2026-11-04") == before
        assert len(file_paths(catalog, "2026-11-03")) == 1
        assert table.day_facts(DAY).rows == 2
        assert_every_snapshot_is_unique(catalog)

    def test_a_large_day_is_many_files_in_one_commit(self, catalog: Catalog) -> None:
        table = IcebergSalesTable(lambda: catalog, held_clock(), chunk_rows=4)
        put(table, DAY, 3, first=90)
        disturbed = Disturbed(catalog)
        commit = table.replace_day(DAY, rows(sale_rows(DAY, 5), sale_rows(DAY, 5, first=5)), RUN, allow_empty=False)
        assert disturbed.calls == 1
        assert (commit.rows_written, commit.rows_replaced, commit.data_files) == (10, 3, 3)
        assert table.day_facts(DAY).rows == 10
        again = put(table, DAY, 2)
        assert (again.rows_replaced, len(file_paths(catalog, "2026-11-03"))) == (10, 1)
        assert_every_snapshot_is_unique(catalog)

    def test_a_key_twice_in_different_chunks_is_refused_before_the_commit(self, catalog: Catalog) -> None:
        """D6"""
        table = IcebergSalesTable(lambda: catalog, held_clock(), chunk_rows=4)
        disturbed = Disturbed(catalog)
        with pytest.raises(DuplicateKeys, match="sale-1103-0"):
            table.replace_day(DAY, rows(sale_rows(DAY, 9), sale_rows(DAY, 1)), RUN, allow_empty=False)
        assert disturbed.calls == 0

    def test_no_file_mixes_days_tenants_or_sources(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        both = day_scope("2026-11-03", "a", "b")
        for scope in (both, day_scope("2026-11-04", "a", "b"), day_scope("2026-11-03", "a", source="carousel")):
            put(table, scope, 6)
        files = [task.file for task in catalog.load_table(SALES).scan().plan_files()]
        assert len(files) == 5
        columns = {field.field_id: field.name for field in catalog.load_table(SALES).schema().fields}
        wanted = [key for key, name in columns.items() if name in ("tenant_id", "sold_date", "source_system")]
        for file in files:
            assert [file.lower_bounds[key] for key in wanted] == [file.upper_bounds[key] for key in wanted]

    def test_the_snapshot_carries_the_run(self, catalog: Catalog, table: IcebergSalesTable) -> None:
        put(table, DAY, 2)
        summary = catalog.load_table(SALES).current_snapshot().summary
        assert summary["salesintel.run-id"] == "run-1"


class TestACatalogThatIsDown:
    def test_it_is_told_within_the_deadline(self) -> None:
        clock = held_clock()
        table = IcebergSalesTable(raising(OSError("refused")), clock, retry=RetryPolicy(50, 1.0, 20.0))
        with pytest.raises(TableUnavailable, match="refused"):
            table.day_facts(DAY)
        assert 10 < clock.monotonic() <= 20

    @pytest.mark.parametrize(
        "denial",
        [
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "glue:GetTable"}}, "GetTable"),
            OSError("When reading metadata: AWS Error ACCESS_DENIED during HeadObject operation: No response body."),
            PermissionError(13, "Permission denied"),
            ForbiddenError("not yours"),
            UnauthorizedError("who are you"),
        ],
        ids=["Glue", "Arrow's S3", "folder", "REST 403", "REST 401"],
    )
    def test_a_missing_permission_is_told_at_once(self, denial: Exception) -> None:
        """`tables upkeep` without its permission took 45 s to say so."""
        waited: list[float] = []
        clock = replace(held_clock(), sleep=waited.append)
        table = IcebergSalesTable(raising(denial), clock, retry=RetryPolicy(50, 1.0, 20.0))
        with pytest.raises(TableRefused, match="does not permit it"):
            table.day_facts(DAY)
        assert waited == []

    def test_one_that_comes_back_is_used(self, tmp_path: Path) -> None:
        answers = [OSError("refused"), OSError("refused")]

        def connect() -> Catalog:
            if answers:
                raise answers.pop()
            return local_catalog(tmp_path)

        table = IcebergSalesTable(connect, held_clock())
        assert put(table, DAY, 2).attempts == 3
