"""The sensors over a real Dagster instance in memory and fakes of every port; their requests are really run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import dagster as dg
import pytest
import time_machine
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from salesintel_dagster.defs import late_days
from salesintel_dagster.defs.export_history import PARTITION, SCHEDULED_BY, UNDER_WAY, ExportHistory
from salesintel_dagster.defs.smartgo_export import JOB, SCHEDULE
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import QUIET, DagsterExport, dagster_export
from salesintel_dagster_tests.fakes.source import sale_row

TODAY = date(2026, 11, 20)
NIGHT = datetime.combine(TODAY, time(3, 20), UTC)
"""The machine's time when a test begins: runs are stamped with it, and the sensors' clock is moved on from it."""
DAYS = days_between(TODAY - timedelta(days=13), TODAY - timedelta(days=1))
MISSING, LATE, LOST = "smartgo_missing_days", "smartgo_late_days", "smartgo_lost_runs"


@dataclass
class Night:
    """The three sensors, a clock that a test sets, and the daemon's part: run keys, cursors, runs."""

    export: DagsterExport
    now: datetime = NIGHT
    cursors: dict[str, str | None] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def tick(self, name: str) -> list[dg.RunRequest] | str:
        """Evaluate a sensor as the daemon does: return the requests whose key is new, or the reason for none."""
        clock = Clock(lambda: self.now, SYSTEM_CLOCK.monotonic, SYSTEM_CLOCK.sleep, SYSTEM_CLOCK.jitter)
        [sensor] = [one for one in late_days.build(self.export.settings, clock).sensors if one.name == name]
        world = self.export.world
        resources = {"smartgo_db": world.source, "lakehouse": world.table, "analytics": world.store}
        if name != LATE:
            resources = {"dynamodb": world.ledger} if name == LOST else {}
        with dg.build_sensor_context(
            self.export.instance,
            cursor=self.cursors.get(name),
            definitions=self.export.definitions,
            resources=resources,
        ) as context:
            told = sensor.evaluate_tick(context)
            self.cursors[name] = told.cursor
        requests = [request for request in told.run_requests or () if request.run_key not in self.keys]
        self.keys |= {request.run_key for request in requests if request.run_key}
        return requests or (told.skip_message or "nothing new")

    def asked(self, name: str) -> list[dg.RunRequest]:
        found = self.tick(name)
        assert not isinstance(found, str), found
        return found

    def reason(self, name: str) -> str:
        found = self.tick(name)
        assert isinstance(found, str), found
        assert found.endswith(".")
        return found

    def run(self, request: dg.RunRequest) -> bool:
        job = self.export.definitions.resolve_job_def(JOB)
        result = job.execute_in_process(
            instance=self.export.instance,
            raise_on_error=False,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config=QUIET,
        )
        return result.success

    def nights(self, *days: date) -> None:
        """Export the days as nightly runs did: the first of them is the first that the schedule asked for."""
        tags = {SCHEDULED_BY: SCHEDULE, PARTITION: days[0].isoformat()}
        job = self.export.definitions.resolve_job_def(JOB)
        self.export.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.SUCCESS)
        self.export.run(*days)

    def later(self, **by: int) -> None:
        self.now = datetime.now(UTC) + timedelta(**by)


@pytest.fixture
def night() -> Iterator[Night]:
    settings = Settings(first_day=DAYS[0].isoformat(), backfill_days_per_run=5, source_retries=0)
    with time_machine.travel(NIGHT, tick=True), dagster_export(settings) as export:
        for day in DAYS:
            export.world.sell(day, 2)
        yield Night(export)


def days_in_table(night: Night) -> list[date]:
    return sorted(set(night.export.world.table.rows["sold_date"].to_pylist()))


def spans(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    return [
        (request.partition_key, request.partition_key)
        if request.partition_key
        else (request.tags[late_days.RANGE_START], request.tags[late_days.RANGE_END])
        for request in requests
    ]


def under_way(
    night: Night, *days: date, status: dg.DagsterRunStatus = dg.DagsterRunStatus.NOT_STARTED
) -> dg.DagsterRun:
    tags = {late_days.RANGE_START: days[0].isoformat(), late_days.RANGE_END: days[-1].isoformat()}
    job = night.export.definitions.resolve_job_def(JOB)
    return night.export.instance.create_run_for_job(job, tags=tags, status=status)


def backfill(night: Night, asset: str) -> PartitionBackfill:
    """Ask for one as the UI does; no daemon takes it up here."""
    asked = PartitionBackfill(
        backfill_id=f"{asset}-1",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=night.now.timestamp(),
        asset_selection=[dg.AssetKey(asset)],
    )
    night.export.instance.add_backfill(asked)
    return asked


class TestMissingDays:
    def test_nine_days_of_downtime_are_made_good_in_few_runs(self, night: Night):
        """J2"""
        night.nights(*DAYS[:4])
        requests = night.asked(MISSING)
        assert spans(requests) == [(str(DAYS[4]), str(DAYS[8])), (str(DAYS[9]), str(DAYS[12]))]
        assert all(night.run(request) for request in requests)
        assert days_in_table(night) == DAYS
        assert night.reason(MISSING) == "Every day that is due since the first night is in the table."
        assert [window.day for window in night.export.world.source.reads] == DAYS

    def test_a_new_deployment_is_not_exported_by_itself(self, night: Night):
        assert night.reason(MISSING).startswith("Every day")

    def test_a_backfill_of_an_old_day_by_hand_asks_for_nothing_more(self, night: Night):
        night.export.run(DAYS[0])
        assert night.reason(MISSING).startswith("Every day")
        night.nights(DAYS[10])
        assert spans(night.asked(MISSING)) == [(str(DAYS[11]), str(DAYS[12]))]

    def test_a_first_night_that_failed_is_made_good(self, night: Night):
        """J2"""
        night.export.world.source.poison[DAYS[12]] = SourceUnavailable("down")
        night.nights(DAYS[12])
        night.export.world.source.poison.clear()
        night.later(minutes=11)
        assert spans(night.asked(MISSING)) == [(str(DAYS[12]), str(DAYS[12]))]

    def test_the_nightly_run_goes_first(self, night: Night):
        night.nights(*DAYS[:12])
        night.now = datetime.combine(TODAY, time(3, 9), UTC)
        assert night.reason(MISSING).startswith("Every day")
        night.now += timedelta(minutes=1)
        assert spans(night.asked(MISSING)) == [(str(DAYS[12]), str(DAYS[12]))]

    def test_a_day_that_is_queued_or_in_progress_is_not_asked_for(self, night: Night):
        """J2"""
        assert dg.DagsterRunStatus.QUEUED in UNDER_WAY  # only a daemon can make such a run
        night.nights(*DAYS[:10])
        for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
            run = under_way(night, *DAYS[10:13], status=status)
            assert "an export is queued or under way" in night.reason(MISSING)
            night.export.instance.delete_run(run.run_id)
        run = under_way(night, *DAYS[10:12])
        assert spans(night.asked(MISSING)) == [(str(DAYS[12]), str(DAYS[12]))]

    def test_nothing_is_asked_for_while_a_backfill_of_the_export_may_bring_it(self, night: Night):
        """J2: the daemon makes a backfill's runs bit by bit; those that it has not made yet are in no queue."""
        night.nights(*DAYS[:10])
        backfill(night, "sales_history")
        assert spans(night.asked(MISSING)) == [(str(DAYS[10]), str(DAYS[12]))]
        begun = backfill(night, "smartgo_sales")
        for status in (BulkActionStatus.CANCELING, BulkActionStatus.FAILING, BulkActionStatus.REQUESTED):
            night.export.instance.update_backfill(begun.with_status(status))
            assert night.reason(MISSING).endswith("a backfill is under way, which may bring them.")
        night.export.instance.update_backfill(begun.with_status(BulkActionStatus.COMPLETED_FAILED))
        night.keys.clear()
        assert spans(night.asked(MISSING)) == [(str(DAYS[10]), str(DAYS[12]))]

    def test_two_ticks_before_a_run_begins_ask_once(self, night: Night):
        """J13: the second tick has the first one's run key, which the daemon runs once."""
        night.nights(*DAYS[:12])
        [first] = night.asked(MISSING)
        night.now -= timedelta(minutes=5)
        assert night.tick(MISSING) == "nothing new"
        night.now -= timedelta(hours=2)
        assert night.reason(MISSING).startswith("Every day")
        assert night.run(first)
        assert night.export.world.table.rows.num_rows == 2 * 13

    def test_two_schedule_ticks_for_one_day_are_one_effective_export(self, night: Night):
        """J13: both name one run key and one partition; even if both are run, each sale is in the table once."""
        repository = night.export.definitions.get_repository_def()
        schedule = repository.get_schedule_def("smartgo_nightly")
        at = datetime.combine(TODAY, time(3), UTC)
        asked = []
        for moment in (at, at + timedelta(minutes=20), at):
            with dg.build_schedule_context(
                night.export.instance, scheduled_execution_time=moment, repository_def=repository
            ) as context:
                asked += schedule.evaluate_tick(context).run_requests or []
        assert {(request.run_key, request.partition_key) for request in asked} == {
            (f"smartgo-{DAYS[-1]}", str(DAYS[-1]))
        }
        assert {night.run(request) for request in asked} == {True}
        assert [row["sale_id"] for row in night.export.world.rows_of(DAYS[-1])] == ["S-000025", "S-000026"]
        assert night.reason(MISSING).startswith("Every day")

    def test_a_failed_day_is_tried_again_under_another_key_later_and_five_times_in_all(self, night: Night):
        """J2: Dagster never runs a failed key again."""
        night.nights(*DAYS[:12])
        night.export.world.source.poison[DAYS[12]] = SourceSchemaMismatch("column sold_price is missing")
        keys = []
        for hours in (0, 1, 2, 7, 20):
            night.later(hours=hours)
            [request] = night.asked(MISSING)
            keys.append(request.run_key)
            assert not night.run(request)
            night.later(minutes=5)
            assert "the last try failed" in night.reason(MISSING) or len(keys) == 5
        assert len(set(keys)) == 5
        night.later(hours=22)
        assert night.reason(MISSING).endswith(f"{DAYS[12]}: 5 tries failed, materialise by hand.")

    def test_a_failed_nightly_run_is_made_good(self, night: Night):
        """A10, J2"""
        night.nights(*DAYS[:12])
        night.export.world.source.poison[DAYS[12]] = SourceUnavailable("down")
        assert not night.export.run(DAYS[12]).success
        night.export.world.source.poison.clear()
        night.later(minutes=9)
        assert "the last try failed" in night.reason(MISSING)
        night.later(minutes=11)
        [request] = night.asked(MISSING)
        assert night.run(request)
        assert days_in_table(night) == DAYS


class TestLateDays:
    def test_a_row_inserted_after_the_run_is_in_the_table_after_the_next_night(self, night: Night):
        """A4"""
        night.export.run(*DAYS)
        late = DAYS[10]
        night.export.world.source.rows.append(sale_row(datetime.combine(late, time(23), UTC), 500))
        requests = night.asked(LATE)
        assert spans(requests) == [(str(late), str(late))]
        assert night.run(requests[0])
        assert "S-000500" in {row["sale_id"] for row in night.export.world.rows_of(late)}
        night.later(minutes=10)
        assert night.reason(LATE) == f"Source and table agree on {', '.join(map(str, DAYS[9:12]))}."
        again = night.export.world.source.reads[len(DAYS) :]
        assert [window.day for window in again] == [late]

    def test_a_night_without_late_rows_asks_for_no_run_and_asks_the_source_once(self, night: Night):
        """A4"""
        night.export.run(*DAYS)
        commits = len(night.export.world.table.commits)
        assert night.reason(LATE).startswith("Source and table agree")
        asked = len(night.export.world.source.fingerprints)
        assert asked == 3
        for _ in range(5):
            night.now += timedelta(minutes=10)
            assert "is done" in night.reason(LATE)
        assert len(night.export.world.source.fingerprints) == asked
        assert len(night.export.world.table.commits) == commits

    def test_days_before_the_look_back_are_left_alone(self, night: Night):
        night.export.run(*DAYS)
        night.export.world.source.rows.append(sale_row(datetime.combine(DAYS[8], time(23), UTC), 500))
        assert night.reason(LATE).startswith("Source and table agree")

    def test_a_day_under_way_is_compared_when_it_has_ended(self, night: Night):
        night.export.run(*DAYS)
        run = under_way(night, DAYS[9], DAYS[10])
        assert "compared when it has ended" in night.reason(LATE)
        night.export.instance.delete_run(run.run_id)
        assert night.reason(LATE).startswith("Source and table agree")

    def test_a_late_day_that_fails_is_tried_again_within_the_night(self, night: Night):
        """A4"""
        night.export.run(*DAYS)
        row = night.export.world.source.rows[2 * 11]
        night.export.world.source.rows[2 * 11] = {**row, "sold_price": Decimal("1.00")}
        night.export.world.source.poison[DAYS[11]] = SourceUnavailable("down")
        [first] = night.asked(LATE)
        assert not night.run(first)
        night.export.world.source.poison.clear()
        night.now += timedelta(minutes=5)
        assert "the last try failed" in night.reason(LATE)
        night.later(minutes=11)
        [second] = night.asked(LATE)
        assert second.run_key != first.run_key
        assert night.run(second)
        assert Decimal("1.00") in {row["sold_price"] for row in night.export.world.rows_of(DAYS[11])}

    def test_a_source_that_is_down_fails_the_tick_and_the_next_one_looks_again(self, night: Night):
        night.export.run(*DAYS)
        night.export.world.source.fail(SourceUnavailable("shop-db:5432/shop: connection refused"))
        with pytest.raises(SourceUnavailable, match="connection refused"):
            night.tick(LATE)
        assert night.reason(LATE).startswith("Source and table agree")


class TestLostRuns:
    def record(self, night: Night, run_id: str, silent: timedelta) -> None:
        at = night.now - silent
        night.export.world.ledger.record(Progress(DAYS[-1], run_id, at, at, RunState.RUNNING, "product_images"))

    def states(self, night: Night) -> dict[str, RunState]:
        return {record.run_id: record.state for record in night.export.world.ledger.history(DAYS[-1])}

    def test_a_run_that_the_instance_ended_is_lost_and_a_running_one_is_not(self, night: Night):
        """A21"""
        dead = under_way(night, DAYS[-1], status=dg.DagsterRunStatus.FAILURE)
        alive = under_way(night, DAYS[-1], status=dg.DagsterRunStatus.STARTED)
        for run in (dead, alive):
            self.record(night, run.run_id, timedelta(hours=1))
        assert night.reason(LOST) == f"1 records of runs that died are LOST now: {dead.run_id} on {DAYS[-1]}."
        assert self.states(night) == {dead.run_id: RunState.LOST, alive.run_id: RunState.RUNNING}
        assert night.reason(LOST).startswith("No run died silently")

    def test_a_run_whose_day_was_exported_again_is_lost_and_the_newer_record_stands(self, night: Night):
        """A21"""
        self.record(night, "gone", timedelta(hours=3))
        night.export.run(DAYS[-1])
        night.later(minutes=1)
        assert night.reason(LOST).startswith("1 records")
        newest = night.export.world.ledger.newest(DAYS[-1])
        assert newest is not None
        assert newest.state is not RunState.LOST

    def test_a_ledger_that_is_down_is_told(self, night: Night):
        night.export.world.ledger.down = True
        assert night.reason(LOST).startswith("Progress cannot be judged now: the progress table is down")


def test_an_export_started_from_an_asset_in_the_ui_counts_as_under_way(night: Night):
    job = night.export.definitions.resolve_job_def(JOB)
    run = night.export.instance.create_run_for_job(
        job,
        tags={"dagster/partition": DAYS[0].isoformat()},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey("smartgo_sales_raw")}),
    )
    assert ExportHistory(night.export.instance).busy() == {DAYS[0]}
    assert ExportHistory(night.export.instance).alive()(run.run_id)
    assert not ExportHistory(night.export.instance).alive()("gone")
    assert not ExportHistory(night.export.instance).backfilling()
