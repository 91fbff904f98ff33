from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from salesintel_dagster.adapters.history_index import HistoryIndex
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.domain.columns import HISTORY_SCHEMA, SALES_SCHEMA
from salesintel_dagster.domain.errors import CommitConflict, DuplicateKeys, RowsRefused, SchemaDrift, TableUnavailable
from salesintel_dagster.domain.keyed_table import KeyedCommit, KeyedTable, TableMonth
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, TENANT
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable, sold_event, sold_rows
from salesintel_dagster_tests.lakes import KINDS, Disturbed, local_catalog
from salesintel_dagster_tests.upkept_tables import RULES, later

HISTORY = (NAMESPACE, HISTORY_TABLE)
DAY = date(2026, 11, 3)
BATCH = {"salesintel.run-id": "run-1", "salesintel.batch-id": "batch-1"}


def table_on(catalog: Catalog, retry: RetryPolicy | None = None) -> IcebergHistoryTable:
    return IcebergHistoryTable(lambda: catalog, held_clock(), **({} if retry is None else {"retry": retry}))


def put(table: KeyedTable, *events: SaleEvent) -> KeyedCommit:
    return table.write_new(sold_rows(*events), BATCH)


def ids(table: KeyedTable, tenant: str = TENANT, day: date = DAY) -> list[str]:
    return sorted(table.of_day(tenant, day))


def assert_unique_at_every_snapshot(catalog: Catalog) -> None:
    table = catalog.load_table(HISTORY)
    for snapshot in table.metadata.snapshots:
        found = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("tenant_id", "sale_id")).to_arrow()
        assert found.num_rows == found.group_by(["tenant_id", "sale_id"]).aggregate([]).num_rows


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with closing(local_catalog(tmp_path)) as opened:
        yield opened


class TestAnyKeyedTable:
    """The port's promises, held by the fake and by Iceberg alike."""

    @pytest.fixture(params=["fake", "iceberg"])
    def table(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyedTable]:
        if request.param == "fake":
            yield InMemoryKeyedTable()
            return
        with closing(local_catalog(tmp_path)) as opened:
            yield table_on(opened)

    def test_new_rows_are_written_and_found_by_their_day(self, table: KeyedTable) -> None:
        commit = put(table, sold_event("a"), sold_event("b"), sold_event("c", tenantId=OTHER_TENANT))
        assert (commit.written, commit.held, commit.conflicts) == (3, 0, {})
        assert commit.months == (TableMonth(TENANT, 2026, 11), TableMonth(OTHER_TENANT, 2026, 11))
        assert table.of_day(TENANT, DAY) == {name: sold_event(name).record.payload_hash for name in ("a", "b")}
        assert ids(table, OTHER_TENANT) == ["c"]
        assert ids(table, day=date(2026, 11, 4)) == []

    def test_rows_that_are_there_are_not_written_again(self, table: KeyedTable) -> None:
        """F4"""
        put(table, sold_event("a"))
        commit = put(table, sold_event("a"), sold_event("b"))
        assert (commit.written, commit.held) == (1, 1)
        again = put(table, sold_event("a"), sold_event("b"))
        assert (again.written, again.held, again.snapshot_id, again.months) == (0, 2, None, ())
        assert ids(table) == ["a", "b"]

    def test_a_row_that_says_something_else_is_a_conflict_and_the_first_stays(self, table: KeyedTable) -> None:
        """F6"""
        first = sold_event("a").record.payload_hash
        put(table, sold_event("a"))
        commit = put(table, sold_event("a", salePrice=1), sold_event("b"))
        assert commit.conflicts == {SaleIdentity(TENANT, "a"): first}
        assert (commit.written, commit.held) == (1, 0)
        assert table.of_day(TENANT, DAY)["a"] == first

    def test_a_higher_version_takes_the_place_of_a_lower_one_and_never_the_other_way(self, table: KeyedTable) -> None:
        first, second = sold_event("a"), sold_event("a", salePrice=1, eventVersion=2)
        put(table, first, sold_event("b"), sold_event("z", soldAt="2026-11-20T00:00:00Z"))
        assert put(table, second, sold_event("c")).written == 2
        assert table.of_day(TENANT, DAY)["a"] == second.record.payload_hash
        late = put(table, first)
        assert (late.written, late.held) == (0, 1)
        assert table.of_day(TENANT, DAY)["a"] == second.record.payload_hash
        assert ids(table) == ["a", "b", "c"]
        assert ids(table, day=date(2026, 11, 20)) == ["z"]

    def test_a_sale_is_found_by_its_id_whatever_its_month(self, table: KeyedTable) -> None:
        put(table, sold_event("a"), sold_event("b", soldAt="2026-12-31T10:00:00Z"), sold_event("c"))
        put(table, sold_event("a", tenantId=OTHER_TENANT, soldAt="2026-10-01T10:00:00Z"))
        assert table.days_of(TENANT, ["a", "b", "none"]) == {"a": DAY, "b": date(2026, 12, 31)}
        assert table.days_of(TENANT, []) == {}

    def test_a_batch_that_holds_a_key_twice_is_refused(self, table: KeyedTable) -> None:
        """D6"""
        with pytest.raises(DuplicateKeys):
            put(table, sold_event("a"), sold_event("a", salePrice=1))
        assert ids(table) == []

    def test_other_columns_are_refused(self, table: KeyedTable) -> None:
        with pytest.raises(SchemaDrift):
            table.write_new(SALES_SCHEMA.empty_table(), BATCH)


def test_the_same_core_as_the_exports_table_then_what_an_event_tells():
    """DESIGN 3.2"""
    assert HISTORY_SCHEMA.names[: len(SALES_SCHEMA)] == SALES_SCHEMA.names
    own = ["listed_price", "days_to_sell", "vendor_id", "description", "payload_hash", "event_version"]
    assert HISTORY_SCHEMA.names[len(SALES_SCHEMA) :] == own


def test_a_batch_is_one_snapshot_that_names_its_batch_and_run(catalog: Catalog) -> None:
    table = table_on(catalog)
    for number in range(3):
        days = [sold_event(f"{number}-{day}", soldAt=f"2026-1{day % 2}-0{day}T00:00:00Z") for day in (1, 2, 3)]
        put(table, *days, sold_event(f"{number}", tenantId=OTHER_TENANT))
    stored = catalog.load_table(HISTORY)
    assert len(stored.metadata.snapshots) == 3
    summary = stored.current_snapshot().summary
    assert BATCH.items() <= summary.additional_properties.items()
    for task in stored.scan().plan_files():
        days = task.file.lower_bounds[12], task.file.upper_bounds[12]
        assert days[0] == days[1], "no file mixes days"


def test_values_come_back_as_they_were_sent(catalog: Catalog) -> None:
    values = np.linspace(0.1, 1, 1024, dtype=np.float32)
    event = sold_event("a", embedding=[float(value) for value in values], soldAt="2026-11-03T01:00:00+02:00")
    put(table_on(catalog), event, sold_event("b"))
    row, other = sorted(catalog.load_table(HISTORY).scan().to_arrow().to_pylist(), key=lambda one: one["sale_id"])
    expected, _ = sold_rows(event, sold_event("b")).to_pylist()
    assert row == expected
    assert row["embedding_vector"] == values.tolist()
    assert (other["embedding_vector"], other["embedding_status"]) == (None, "NOT_SENT")
    assert row["sold_date"] == date(2026, 11, 2)


@pytest.mark.parametrize("kind", KINDS)
class TestTwoWriters:
    @pytest.fixture
    def catalog(self, kind: str, request: pytest.FixtureRequest) -> Iterator[Catalog]:
        with closing(KINDS[kind](request)) as opened:
            yield opened

    @pytest.mark.parametrize("there_before", [False, True], ids=["new table", "table with rows"])
    def test_of_two_that_write_the_same_sale_one_finds_it_there(self, catalog: Catalog, there_before: bool) -> None:  # noqa: FBT001 - pytest's
        """D1"""
        table, other = table_on(catalog), table_on(catalog)
        if there_before:
            put(table, sold_event("z"))
        Disturbed(catalog, before=once(lambda: put(other, sold_event("b"), sold_event("c"))))
        commit = put(table, sold_event("a"), sold_event("c"))
        assert (commit.attempts, commit.written, commit.held) == (2, 1, 1)
        assert ids(table) == sorted(["a", "b", "c", *(["z"] if there_before else [])])
        assert_unique_at_every_snapshot(catalog)

    def test_writers_of_other_tenants_and_months_both_commit_at_the_first_try(self, catalog: Catalog) -> None:
        """D2"""
        table, other = table_on(catalog), table_on(catalog)
        put(table, sold_event("z"))
        apart = [sold_event("a", tenantId=OTHER_TENANT), sold_event("a", soldAt="2026-10-03T00:00:00Z")]
        Disturbed(catalog, before=once(lambda: put(other, *apart)))
        commit = put(table, sold_event("a"))
        assert (commit.attempts, commit.written) == (1, 1)
        assert_three = [ids(table), ids(table, OTHER_TENANT), ids(table, day=date(2026, 10, 3))]
        assert assert_three == [["a", "z"], ["a"], ["a"]]

    @pytest.mark.parametrize("error", [OSError("reset"), CommitFailedException("stale")], ids=["lost", "refused"])
    def test_a_commit_that_landed_without_an_answer_counts_once(self, catalog: Catalog, error: Exception) -> None:
        """D3"""
        disturbed = Disturbed(catalog, after=once(raising(error)))
        commit = put(table_on(catalog), sold_event("a"), sold_event("b"))
        assert (commit.written, disturbed.calls) == (2, 1)
        assert ids(table_on(catalog)) == ["a", "b"]
        assert_unique_at_every_snapshot(catalog)

    @pytest.mark.parametrize("error", [OSError("reset"), CommitStateUnknownException("504")], ids=["lost", "unknown"])
    def test_a_commit_that_did_not_land_is_made_again(self, catalog: Catalog, error: Exception) -> None:
        """D3"""
        Disturbed(catalog, before=once(raising(error)))
        assert put(table_on(catalog), sold_event("a")).attempts == 2
        assert ids(table_on(catalog)) == ["a"]


def test_a_commit_whose_table_cannot_be_asked_is_recognised_later(catalog: Catalog) -> None:
    """D3"""
    put(table_on(catalog), sold_event("z"))
    load = catalog.load_table

    def down(*_: object) -> None:
        catalog.load_table = load
        raise OSError("catalog is down")

    def lose() -> None:
        catalog.load_table = down
        raise OSError("reset")

    disturbed = Disturbed(catalog, after=once(lose))
    commit = put(table_on(catalog), sold_event("a"), sold_event("b"))
    assert (commit.attempts, disturbed.calls) == (2, 1)
    assert (commit.written, commit.held) == (2, 0)
    assert commit.snapshot_id is not None
    assert ids(table_on(catalog)) == ["a", "b", "z"]


def test_one_who_always_loses_says_so(catalog: Catalog) -> None:
    """D1"""
    table, winner = table_on(catalog, RetryPolicy(2, 0.1, 60.0)), table_on(catalog)
    put(winner, sold_event("z"))
    calls = [0]

    def win(_: int) -> None:
        calls[0] += 1
        if calls[0] % 2:
            put(winner, sold_event("a", eventVersion=calls[0], salePrice=calls[0]))

    Disturbed(catalog, before=win)
    with pytest.raises(CommitConflict, match="3 times"):
        put(table, sold_event("a", eventVersion=99))
    assert_unique_at_every_snapshot(catalog)


def test_the_table_is_kept_by_upkeep_while_it_is_written(catalog: Catalog) -> None:
    """D13"""
    table = table_on(catalog)
    for number in range(6):
        put(table, sold_event(f"{number}"))
    keeper = IcebergTableKeeper(lambda: catalog, held_clock(), HISTORY_TABLE)
    Disturbed(catalog, before=once(lambda: keeper.compact(RULES, later())))
    assert put(table, sold_event("new"), sold_event("3"), sold_event("4", eventVersion=2)).written == 2
    keeper.expire(RULES, later())
    keeper.remove(RULES, later())
    assert ids(table) == ["0", "1", "2", "3", "4", "5", "new"]
    Disturbed(catalog, before=once(lambda: put(table_on(catalog), sold_event("newer"))))
    keeper.compact(RULES, later())
    assert ids(table) == ["0", "1", "2", "3", "4", "5", "new", "newer"]
    assert_unique_at_every_snapshot(catalog)


def test_a_reader_during_commits_sees_whole_batches_only(tmp_path: Path) -> None:
    """D12"""
    ended = threading.Event()
    seen: list[int] = []

    def read() -> None:
        with closing(local_catalog(tmp_path)) as own:
            while not ended.is_set():
                seen.append(len(ids(table_on(own))))

    with closing(local_catalog(tmp_path)) as catalog:
        put(table_on(catalog), *(sold_event(f"first-{n}") for n in range(5)))
        reader = threading.Thread(target=read)
        reader.start()
        for batch in range(4):
            put(table_on(catalog), *(sold_event(f"{batch}-{n}") for n in range(5)))
        ended.set()
        reader.join()
    assert seen
    assert all(count % 5 == 0 for count in seen)


def test_rows_that_cannot_be_written_are_told_apart_from_a_table_out_of_reach(catalog: Catalog) -> None:
    """F13"""
    table = table_on(catalog)
    rows = sold_rows(sold_event("a"))
    bad = rows.set_column(rows.schema.get_field_index("days_to_sell"), "days_to_sell", pa.array([2**40]))
    with pytest.raises(RowsRefused, match="1 rows cannot be written"):
        table.write_new(bad, BATCH)
    Disturbed(catalog, before=lambda _: (_ for _ in ()).throw(OSError("down")))
    with pytest.raises(TableUnavailable, match="down"):
        table.write_new(rows, BATCH)
    assert ids(table) == []


def once(action: Callable[[], object]) -> Callable[[int], None]:
    """Act at the first commit only: the action commits too."""

    def act(call: int) -> None:
        if call == 1:
            action()

    return act


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


class TestALongLivedWriter:
    """One that remembers what the table holds, while others change the table under it."""

    def keeper(self, catalog: Catalog) -> IcebergTableKeeper:
        return IcebergTableKeeper(lambda: catalog, held_clock(), HISTORY_TABLE)

    def assert_it_knows_all(self, catalog: Catalog, table: IcebergHistoryTable, *sale_ids: str) -> None:
        again = put(table, *(sold_event(sale_id) for sale_id in sale_ids))
        assert (again.written, again.held) == (0, len(sale_ids))
        assert_unique_at_every_snapshot(catalog)

    @pytest.mark.parametrize("first", [(), ("z",)], ids=["a new table", "a table with rows"])
    def test_it_knows_what_itself_and_others_wrote(self, catalog: Catalog, first: tuple[str, ...]) -> None:
        """D1"""
        table, other = table_on(catalog), table_on(catalog)
        for sale_id in first:
            put(other, sold_event(sale_id))
        put(table, sold_event("a"))
        put(other, sold_event("b"), sold_event("x", tenantId=OTHER_TENANT))
        put(table, sold_event("c"))
        put(other, sold_event("d", soldAt="2026-11-20T00:00:00Z"))
        self.assert_it_knows_all(catalog, table, *first, "a", "b", "c")
        assert put(table, sold_event("d", soldAt="2026-11-20T00:00:00Z")).held == 1
        assert put(table, sold_event("x", tenantId=OTHER_TENANT)).held == 1

    def test_it_opens_no_file_twice(self, catalog: Catalog, tmp_path: Path) -> None:
        table = table_on(catalog)
        put(table, sold_event("a"), sold_event("b"))
        read_already = set((tmp_path / "warehouse").rglob("*.parquet"))
        put(table, sold_event("c"))
        for path in read_already:
            path.unlink()
        assert put(table, sold_event("d")).written == 1
        with pytest.raises(TableUnavailable):
            put(table_on(catalog), sold_event("e"))

    def test_upkeep_takes_no_row_from_its_knowledge(self, catalog: Catalog) -> None:
        """D13"""
        table = table_on(catalog)
        for number in range(6):
            put(table, sold_event(f"{number}"))
        self.keeper(catalog).compact(RULES, later())
        self.assert_it_knows_all(catalog, table, *map(str, range(6)))
        put(table_on(catalog), sold_event("other"))
        self.keeper(catalog).compact(RULES, later())
        self.keeper(catalog).expire(RULES, later())
        self.keeper(catalog).remove(RULES, later())
        self.assert_it_knows_all(catalog, table, "other", *map(str, range(6)))

    def test_a_history_that_expired_between_two_batches_is_read_anew(self, catalog: Catalog) -> None:
        table, other = table_on(catalog), table_on(catalog)
        put(table, sold_event("a"))
        for number in range(4):
            put(other, sold_event(f"{number}"))
        self.keeper(catalog).expire(RULES, later())
        self.assert_it_knows_all(catalog, table, "a", *map(str, range(4)))

    def test_a_table_that_was_rolled_back_is_read_anew(self, catalog: Catalog) -> None:
        table = table_on(catalog)
        put(table, sold_event("a"))
        stored = catalog.load_table(HISTORY)
        put(table, sold_event("b"))
        put(table, sold_event("c"))
        catalog.load_table(HISTORY).manage_snapshots().rollback_to_snapshot(
            stored.current_snapshot().snapshot_id
        ).commit()
        commit = put(table, sold_event("a"), sold_event("b"))
        assert (commit.written, commit.held) == (1, 1)
        self.assert_it_knows_all(catalog, table, "a", "b")

    def test_what_it_remembers_is_bounded(self, catalog: Catalog) -> None:
        table = table_on(catalog)
        table._index = HistoryIndex(most_ids=3)
        for number in range(4):
            put(table, sold_event(f"{number}-a"), sold_event(f"{number}-b"))
            assert sum(len(month.hashes) for month in table._index._months.values()) <= 3
        self.assert_it_knows_all(catalog, table, "0-a", "3-b")
