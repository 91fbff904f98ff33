"""J2: Dagster's own sensor daemon takes the requests: runs over ranges of days are made, queued, and made once."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    freeze_time,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.sensor import execute_sensor_iteration

from salesintel_dagster.defs.export_history import PARTITION, RANGE_END, RANGE_START, SCHEDULED_BY
from salesintel_dagster.defs.smartgo_export import JOB, SCHEDULE

LOCATION = Path(__file__).with_name("late_location.py")
LAUNCHER = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}


# Dagster's own snapshot of a schedule reads a property of its own that it has deprecated.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_after_nine_days_of_downtime_the_daemon_queues_two_runs_and_asks_once():
    """J2"""
    days = [datetime.now(UTC).date() - timedelta(days=n) for n in range(14, 0, -1)]
    target = LoadableTargetOrigin(
        executable_path=sys.executable, python_file=str(LOCATION), attribute="defs", working_directory=None
    )
    workspace = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name="late"))
    with instance_for_test(overrides={"run_launcher": LAUNCHER}) as instance:
        for day in (*days[:4], days[-1]):
            instance.report_runless_asset_event(dg.AssetMaterialization("smartgo_sales", partition=day.isoformat()))
        night = {SCHEDULED_BY: SCHEDULE, PARTITION: days[0].isoformat()}
        instance.add_run(dg.DagsterRun(JOB, tags=night, status=dg.DagsterRunStatus.SUCCESS))
        with create_test_daemon_workspace_context(workspace, instance) as context:
            for minutes in (0, 11):  # a second tick, after the sensors' minimum interval
                with freeze_time(datetime.now(UTC) + timedelta(minutes=minutes)):
                    _tick(context)
        ticks = [
            tick.status.value
            for state in instance.all_instigator_state()
            if state.instigator_name.startswith("smartgo_")
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        ]
        assert len(ticks) == 6
        assert "FAILURE" not in ticks
        runs = [run for run in instance.get_runs() if SCHEDULED_BY not in run.tags]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.QUEUED}
        assert sorted((run.tags[RANGE_START], run.tags[RANGE_END]) for run in runs) == [
            (str(days[4]), str(days[8])),
            (str(days[9]), str(days[12])),
        ]


def _tick(context: Any) -> None:  # noqa: ANN401 - Dagster's own process context
    logger = logging.getLogger("daemon")
    for told in execute_sensor_iteration(context, logger, threadpool_executor=None, submit_threadpool_executor=None):
        assert told is None
