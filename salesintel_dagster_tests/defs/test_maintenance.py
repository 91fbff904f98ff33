from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from salesintel_dagster.defs import maintenance
from salesintel_dagster.domain.errors import CommitConflict
from salesintel_dagster.domain.upkeep import Step
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.table_keeper import ScriptedTableKeeper


def run(*keepers: ScriptedTableKeeper, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    resource = dg.ResourceDefinition.hardcoded_resource(keepers)
    served = dg.Definitions.merge(maintenance.build(Settings()), dg.Definitions(resources={"table_keepers": resource}))
    return served.resolve_job_def(maintenance.JOB).execute_in_process(run_config=config, raise_on_error=False)


def scheduled() -> dg.RunRequest:
    (schedule,) = maintenance.build(Settings()).schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 5 * * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    at = datetime(2026, 11, 21, 5, tzinfo=UTC)
    (request,) = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at)).run_requests or ()
    return request


def test_started_by_hand_it_is_a_dry_run():
    keeper = ScriptedTableKeeper()
    assert run(keeper).success
    assert keeper.acts == []


def test_the_schedule_really_does_it_at_five_every_day():
    request = scheduled()
    keeper = ScriptedTableKeeper()
    assert request.run_key == "upkeep-2026-11-21"
    assert run(keeper, config=dict(request.run_config)).success
    assert keeper.acts == list(Step)


def test_how_the_table_stands_is_an_observation_on_its_asset():
    (event,) = [event for event in run(ScriptedTableKeeper()).all_events if event.is_asset_observation]
    found = {key: value.value for key, value in event.asset_observation_data.asset_observation.metadata.items()}
    assert event.asset_key == dg.AssetKey("smartgo_sales")
    assert found == {
        "dry_run": True,
        "snapshots": 2,
        "data_files": 31,
        "manifests": 2,
        "data_bytes": 4_200_000_000,
        "stored_files": 40,
        "stored_bytes": 4_300_000_000,
        "compact_items": 0,
        "expire_items": 1,
        "remove_items": 1,
    }


def test_one_table_that_fails_keeps_no_other_from_its_upkeep_and_the_run_says_so():
    """D13"""
    broken = ScriptedTableKeeper(failing={"compact": CommitConflict("another writer was first")})
    other = ScriptedTableKeeper("sales_history")
    result = run(broken, other, config=dict(scheduled().run_config))
    assert not result.success
    assert other.acts == list(Step)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data.description == "smartgo_sales: compact: another writer was first"
