from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from salesintel_dagster.adapters.table_files import TableFiles
from salesintel_dagster.adapters.table_transaction import OneCopyTransaction
from salesintel_dagster.adapters.table_upkeep import LAST_UPKEEP, IcebergTableKeeper
from salesintel_dagster.domain.errors import CommitConflict, TableUnavailable, UpkeepRefused
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.upkeep import Step, UpkeepRules
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import KINDS, SALES, Disturbed
from salesintel_dagster_tests.upkept_tables import (
    DAYS,
    RULES,
    TWO,
    added,
    assert_every_retained_snapshot_can_be_read,
    forgetful,
    keeper_of,
    keys,
    later,
    replaced,
    scattered,
    survey,
    upkeep,
    whole,
)

DAY = DAYS[0]
STRANGE_TENANTS = ("o'brien", 'say "x"', "a#b", "a/b", "..", "ünïcode-\N{PILE OF POO}", "a=b&c d", "%2F", "a?b")


@pytest.fixture
def catalog(request: pytest.FixtureRequest) -> Iterator[Catalog]:
    opened = KINDS[getattr(request, "param", "sqlite")](request)
    yield opened
    opened.close()


def at_first(action: Callable[[], object]) -> Callable[[int], None]:
    return lambda call: action() and None if call == 1 else None


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("catalog", KINDS, indirect=True)
def test_every_catalog_is_kept_without_changing_a_row(catalog: Catalog) -> None:
    """D13, D14, D15"""
    scattered(catalog)
    replaced(catalog, DAYS[2], 5)
    before = whole(catalog)
    todo = survey(catalog).rehearsal()
    compact, expire, remove = upkeep(catalog)
    assert compact.items == 10, "eight files, two manifests"
    left_to_aws = catalog.properties.get("rest.signing-name") == "s3tables"
    if left_to_aws:
        assert "S3 Tables" in expire.skipped
        assert "S3 Tables" in remove.skipped
        assert (expire.items, remove.items) == (0, 0)
    else:
        assert todo[1].items > 0
        assert expire.items > todo[1].items, "compaction has put more snapshots out of use"
    now = survey(catalog)
    assert (now.rows, now.data_files, now.managed) == (21, 6, left_to_aws)
    assert len(now.snapshots) == 2 or left_to_aws
    assert now.manifests == 2, "one a month"
    assert now.last_upkeep is not None
    assert whole(catalog) == before
    assert_every_retained_snapshot_can_be_read(catalog)
    assert replaced(catalog, DAY, 3) == 1
    assert len(whole(catalog)) == 16


class TestCompaction:
    def test_a_day_of_many_files_becomes_one_a_tenant_and_no_file_mixes_days(self, catalog: Catalog) -> None:
        scattered(catalog)
        files = survey(catalog).data_files
        keeper_of(catalog).compact(RULES, later())
        table = catalog.load_table(SALES)
        found = [task.file for task in table.scan().plan_files()]
        assert (files, len(found)) == (12, 6)
        ids = {field.name: field.field_id for field in table.schema().fields}
        for file in found:
            for name in ("tenant_id", "sold_date", "source_system"):
                assert file.lower_bounds[ids[name]] == file.upper_bounds[ids[name]]

    def test_a_day_of_one_file_is_not_touched(self, catalog: Catalog) -> None:
        for scope in DAYS:
            replaced(catalog, scope, 4)
        before = {task.file.file_path for task in catalog.load_table(SALES).scan().plan_files()}
        keeper_of(catalog).compact(RULES, later())
        assert {task.file.file_path for task in catalog.load_table(SALES).scan().plan_files()} == before

    def test_nothing_to_do_is_no_commit(self, catalog: Catalog) -> None:
        scattered(catalog)
        keeper_of(catalog).compact(RULES, later())
        disturbed = Disturbed(catalog)
        assert keeper_of(catalog).compact(RULES, later()).items == 0
        assert disturbed.calls == 0

    def test_large_days_keep_full_files(self, catalog: Catalog) -> None:
        scope = day_scope("2026-10-30")
        scattered(catalog, [scope], count=30)
        rules = UpkeepRules(full_file_rows=12)
        keeper_of(catalog).compact(rules, later())
        table = catalog.load_table(SALES)
        assert sorted(task.file.record_count for task in table.scan().plan_files()) == [6, 12, 12]
        assert keeper_of(catalog).compact(rules, later()).items == 0

    def test_files_of_another_program_that_mix_days_stay_as_they_are(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        mixed = [sale_rows(day_scope(f"2026-10-0{day}"), 2) for day in (1, 2)]
        for _ in range(2):
            catalog.load_table(SALES).append(pa.Table.from_batches(mixed))
        assert sum(len(group) for group in survey(catalog).to_compact) == 4

    def test_readers_of_changes_do_not_take_it_for_news(self, catalog: Catalog) -> None:
        scattered(catalog)
        known = {one.snapshot_id for one in catalog.load_table(SALES).metadata.snapshots}
        keeper_of(catalog).compact(RULES, later())
        made = [one for one in catalog.load_table(SALES).metadata.snapshots if one.snapshot_id not in known]
        assert len(made) == 5
        for one in made:
            assert one.summary is not None
            assert one.summary.operation is Operation.REPLACE
            assert one.summary["total-records"] == "24"
        assert made[-1].summary["total-data-files"] == "6"

    def test_a_file_that_has_lost_rows_is_not_written_anew_as_if_that_were_all(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        damaged = next(iter(catalog.load_table(SALES).scan().plan_files())).file
        path = damaged.file_path.removeprefix("file://")
        pq.write_table(pq.read_table(path).slice(1), path)
        with pytest.raises(UpkeepRefused, match="4 rows would become 1 files of 3 rows"):
            keeper_of(catalog).compact(RULES, later())
        assert damaged.file_path in {task.file.file_path for task in catalog.load_table(SALES).scan().plan_files()}


class TestBesideWriters:
    """D13"""

    def test_compaction_loses_to_a_writer_of_the_same_day_and_is_planned_anew(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        disturbed = Disturbed(catalog, before=at_first(lambda: replaced(catalog, DAY, 6, first=50)))
        done = keeper_of(catalog).compact(RULES, later())
        assert done.attempts == 2
        assert disturbed.calls == 2
        assert [row["sale_id"][-2:] for row in whole(catalog)] == ["50", "52", "54", "51", "53", "55"]
        assert_every_retained_snapshot_can_be_read(catalog)

    def test_compaction_and_a_writer_of_another_day_both_commit(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        Disturbed(catalog, before=at_first(lambda: replaced(catalog, DAYS[1], 6)))
        assert keeper_of(catalog).compact(RULES, later()).attempts == 1
        assert (survey(catalog).rows, survey(catalog).data_files) == (14, 4)

    def test_rows_that_are_added_meanwhile_are_kept(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        Disturbed(catalog, before=at_first(lambda: added(catalog, DAY, 4, first=50)))
        keeper_of(catalog).compact(RULES, later())
        assert (survey(catalog).rows, survey(catalog).data_files) == (12, 2)
        assert_every_retained_snapshot_can_be_read(catalog)

    def test_a_writer_loses_to_compaction_of_its_day_and_no_row_doubles(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        disturbed = Disturbed(catalog, before=at_first(lambda: keeper_of(catalog).compact(RULES, later())))
        assert replaced(catalog, DAY, 6, first=4) == 2
        assert disturbed.calls == 5
        assert [row["sale_id"][-1] for row in whole(catalog)] == list("468579")
        assert_every_retained_snapshot_can_be_read(catalog)

    @pytest.mark.parametrize("scope", [DAY, DAYS[1]], ids=["the compacted day", "another day"])
    def test_a_writer_comes_through_a_whole_upkeep_in_the_middle_of_its_commit(self, catalog: Catalog, scope) -> None:  # noqa: ANN001 - DayScope
        scattered(catalog)
        others = [key for key in keys(catalog.load_table(SALES).scan().to_arrow()) if key[0] != str(scope.day)]
        Disturbed(catalog, before=at_first(lambda: upkeep(catalog)))
        replaced(catalog, scope, 6)
        found = keys(catalog.load_table(SALES).scan().to_arrow())
        assert [key for key in found if key[0] != str(scope.day)] == others
        assert len(found) == len(others) + 6
        assert_every_retained_snapshot_can_be_read(catalog)

    def test_manifests_of_a_commit_that_came_between_are_regrouped_too(self, catalog: Catalog) -> None:
        for scope in DAYS[:2]:
            replaced(catalog, scope, 2)
        Disturbed(catalog, before=at_first(lambda: replaced(catalog, day_scope("2026-10-02", *TWO), 2)))
        assert keeper_of(catalog).compact(RULES, later()).attempts == 1
        assert (survey(catalog).rows, survey(catalog).manifests) == (6, 1)

    def test_one_who_always_loses_says_so_and_changes_nothing(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        before = whole(catalog)
        keeper = IcebergTableKeeper(lambda: catalog, held_clock(), SALES[1], retry=RetryPolicy(2, 0.1, 60.0))
        busy: list[int] = []

        def win(_: int) -> None:
            if not busy:
                busy.append(1)
                scattered(catalog, [DAY])
                busy.clear()

        Disturbed(catalog, before=win)
        with pytest.raises(CommitConflict, match="3 times"):
            keeper.compact(RULES, later())
        busy.append(1)
        assert whole(catalog) == before
        assert_every_retained_snapshot_can_be_read(catalog)

    @pytest.mark.parametrize(
        "error",
        [CommitFailedException("version"), CommitStateUnknownException("gateway"), OSError("reset")],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("step", ["compact", "expire"])
    def test_a_commit_whose_answer_is_lost_counts_once(self, catalog: Catalog, step: str, error: Exception) -> None:
        """D3"""
        scattered(catalog, [DAY])
        before = whole(catalog)
        Disturbed(catalog, after=at_first(raising(error)))
        done = getattr(keeper_of(catalog), step)(RULES, later())
        assert (done.items, done.attempts) == {"compact": (6, 1), "expire": (0, 2)}[step]
        assert whole(catalog) == before
        assert survey(catalog).rows == 8
        assert_every_retained_snapshot_can_be_read(catalog)
        assert replaced(catalog, DAY, 3) == 1


class TestExpiry:
    def test_it_notes_when_it_was(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        at = later().replace(microsecond=0)
        keeper_of(catalog).expire(RULES, at)
        assert catalog.load_table(SALES).properties[LAST_UPKEEP] == at.isoformat()
        assert survey(catalog).last_upkeep == at

    def test_young_snapshots_stay(self, catalog: Catalog) -> None:
        scattered(catalog)
        count = len(survey(catalog).snapshots)
        assert keeper_of(catalog).expire(RULES, datetime.now(UTC) + timedelta(days=4)).items == 0
        assert len(survey(catalog).snapshots) == count

    def test_a_commit_in_between_is_not_lost(self, catalog: Catalog) -> None:
        """D13"""
        scattered(catalog)
        Disturbed(catalog, before=at_first(lambda: replaced(catalog, DAY, 3)))
        assert keeper_of(catalog).expire(RULES, later()).attempts == 2
        assert survey(catalog).rows == 19
        assert len(survey(catalog).snapshots) == 2

    def test_a_snapshot_that_becomes_the_newest_meanwhile_is_not_taken_away(self, catalog: Catalog) -> None:
        """Removing a branch's head removes the branch: the table would have been empty."""
        replaced(catalog, DAY, 3)
        oldest = catalog.load_table(SALES).current_snapshot().snapshot_id
        scattered(catalog)

        def roll_back() -> None:
            table = catalog.load_table(SALES)
            table.manage_snapshots().rollback_to_snapshot(oldest).commit()

        Disturbed(catalog, before=at_first(roll_back))
        keeper_of(catalog).expire(RULES, later())
        assert catalog.load_table(SALES).current_snapshot().snapshot_id == oldest
        assert survey(catalog).rows == 3

    def test_two_at_once_are_one(self, catalog: Catalog) -> None:
        scattered(catalog)
        Disturbed(catalog, before=at_first(lambda: keeper_of(catalog).expire(RULES, later())))
        done = keeper_of(catalog).expire(RULES, later())
        assert (done.items, done.attempts) == (0, 2)
        assert survey(catalog).rows == 24


class TestTablesThatAreNotThere:
    def test_one_that_was_never_made_is_not_made_by_looking(self, catalog: Catalog) -> None:
        assert keeper_of(catalog).survey(RULES, later()) is None
        assert [step.items for step in upkeep(catalog)] == [0, 0, 0]
        assert keeper_of(catalog).survey(RULES, later()) is None

    def test_one_without_a_row_is_left_in_peace(self, catalog: Catalog) -> None:
        scattered(catalog, [DAY])
        catalog.drop_table(SALES)
        assert survey_of_new_table(catalog) == (0, 0, 0)

    def test_a_catalog_that_is_down_is_told(self) -> None:
        down = IcebergTableKeeper(raising(OSError("refused")), held_clock(), SALES[1], retry=RetryPolicy(2, 0.1, 9.0))
        for act in (down.survey, down.compact, down.expire, down.remove):
            with pytest.raises(TableUnavailable, match="refused"):
                act(RULES, later())


def survey_of_new_table(catalog: Catalog) -> tuple[int, ...]:
    from salesintel_dagster.adapters.lakehouse import IcebergSalesTable  # noqa: PLC0415 - only here

    IcebergSalesTable(lambda: catalog, held_clock()).day_facts(DAY)
    steps = [getattr(keeper_of(catalog), step)(RULES, later()) for step in (Step.COMPACT, Step.EXPIRE)]
    return (*(step.items for step in steps), survey(catalog).data_files)


class TestRemoval:
    """D4, D14"""

    def test_files_of_replaced_days_go_once_no_retained_metadata_knows_them(self, catalog: Catalog) -> None:
        replaced(catalog, DAY, 2)
        forgetful(catalog)
        for n in range(6):
            replaced(catalog, DAY, 2, first=n)
        keeper_of(catalog).expire(RULES, later())
        for n in range(3):
            replaced(catalog, DAYS[1], 2, first=n)
        before, rows = survey(catalog), whole(catalog)
        upkeep(catalog)
        after = survey(catalog)
        assert len(before.to_remove) >= 10
        assert after.stored_files < before.stored_files
        assert after.to_remove == ()
        assert whole(catalog) == rows
        assert_every_retained_snapshot_can_be_read(catalog)

    def test_what_a_manifest_names_is_read_once_and_forgotten_with_it(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each upkeep of ten years of daily files read them nine times."""
        read: list[str] = []
        fetch = ManifestFile.fetch_manifest_entry

        def counted(manifest: ManifestFile, io: FileIO) -> list[ManifestEntry]:
            read.append(manifest.manifest_path)
            return fetch(manifest, io)

        scattered(catalog)
        named: dict[str, list[str]] = {}
        monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", counted)
        found = [TableFiles(catalog, catalog.load_table(SALES), named).referenced for _ in range(2)]
        assert found[0] == found[1]
        assert len(read) == len(set(read)) == len(named) > 1
        monkeypatch.undo()
        keeper = keeper_of(catalog)
        keeper.survey(RULES, later())
        assert keeper._named == named
        keeper._named["file:///a-manifest-that-no-metadata-knows-any-more.avro"] = []
        keeper.remove(RULES, later())
        assert keeper._named == named

    def test_what_a_writer_may_just_have_written_stays(self, catalog: Catalog) -> None:
        scattered(catalog)
        orphan = catalog.load_table(SALES).location().removeprefix("file://") + "/data/left.parquet"
        pa.OSFile(orphan, "wb").close()
        for now, found in ((datetime.now(UTC) + timedelta(days=2, hours=23), 0), (later(), 1)):
            assert [file.path for file in survey(catalog, now).to_remove] == [orphan] * found
            assert keeper_of(catalog).remove(RULES, now).items == found

    def test_what_is_committed_while_the_files_are_listed_stays(self, catalog: Catalog) -> None:
        """D13"""
        scattered(catalog, [DAY])
        load = catalog.load_table

        def loading(name: tuple[str, str]) -> Table:
            catalog.load_table = load
            table = load(name)
            replaced(catalog, DAY, 5, first=50)
            return table

        catalog.load_table = loading
        keeper_of(catalog).remove(RULES, later())
        assert len(whole(catalog)) == 5
        assert_every_retained_snapshot_can_be_read(catalog)

    def test_strange_tenants_files_are_recognised(self, catalog: Catalog) -> None:
        """D8"""
        scope = day_scope("2026-10-30", *STRANGE_TENANTS)
        scattered(catalog, [scope], count=len(STRANGE_TENANTS) * 2)
        before = whole(catalog)
        assert survey(catalog).to_remove == ()
        upkeep(catalog)
        assert survey(catalog).refused == ""
        assert whole(catalog) == before
        assert survey(catalog).data_files == len(STRANGE_TENANTS)

    def test_files_of_a_table_that_was_dropped_by_mistake_are_not_taken_for_rubbish(self, catalog: Catalog) -> None:
        scattered(catalog)
        lost = catalog.load_table(SALES).metadata_location
        catalog.drop_table(SALES)
        scattered(catalog, [DAY])
        with pytest.raises(UpkeepRefused, match="another table"):
            keeper_of(catalog).remove(RULES, later())
        assert "another table" in survey(catalog).refused
        catalog.drop_table(SALES)
        catalog.register_table(SALES, lost)
        assert len(whole(catalog)) == 24

    def test_nothing_is_removed_while_the_present_files_cannot_be_found(self, catalog: Catalog) -> None:
        scattered(catalog)
        one = next(iter(catalog.load_table(SALES).scan().plan_files())).file.file_path
        catalog.load_table(SALES).io.delete(one)
        with pytest.raises(UpkeepRefused, match="not found"):
            keeper_of(catalog).remove(RULES, later())

    def test_names_that_no_iceberg_writer_gives_are_not_touched(self, catalog: Catalog) -> None:
        scattered(catalog)
        location = catalog.load_table(SALES).location().removeprefix("file://")
        for name in ("notes.txt", "data/readme.md", "metadata/version-hint.text"):
            pa.OSFile(f"{location}/{name}", "wb").close()
        assert survey(catalog).to_remove == ()


def test_a_commit_works_its_metadata_out_a_few_times_and_not_thirty(catalog: Catalog) -> None:
    """29 copies of every snapshot a commit before, 393 ms on 365 snapshots; 149 ms since."""
    replaced(catalog, DAY, 2)
    profile = cProfile.Profile()
    profile.runcall(replaced, catalog, DAYS[1], 2)
    calls = {name: count for (_, _, name), (count, *_) in pstats.Stats(profile).stats.items()}
    assert 0 < calls["update_table_metadata"] <= 5


def test_a_transaction_that_is_tried_again_sees_the_table_as_it_is_then(catalog: Catalog) -> None:
    replaced(catalog, DAY, 2)
    table = catalog.load_table(SALES)
    transaction = OneCopyTransaction(table)
    before = transaction.table_metadata
    assert transaction.table_metadata is before
    replaced(catalog, DAY, 3)
    table.refresh()
    assert transaction.table_metadata.current_snapshot_id == table.metadata.current_snapshot_id
    assert before.current_snapshot_id != table.metadata.current_snapshot_id


def test_tables_are_opened_lazily_and_once() -> None:
    opened: list[int] = []

    def connect() -> Catalog:
        opened.append(1)
        raise OSError("refused")

    keeper = IcebergTableKeeper(connect, held_clock(), SALES[1], retry=RetryPolicy(0))
    assert (keeper.name, opened) == ("smartgo_sales", [])
