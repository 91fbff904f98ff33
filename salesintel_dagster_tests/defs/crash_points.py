"""A daemon that is killed at each of Dagster's debug crash points of a tick, and the one that comes after it.

`python -m salesintel_dagster_tests.defs.crash_points FOLDER` prints, for each case, the signal that ended the first
daemon and the runs that there are in the end. Each daemon is a fork: what Dagster costs to load is paid for once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    freeze_time,
    instance_for_test,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from salesintel_dagster.defs.export_history import PARTITION, RANGE_END, RANGE_START, SCHEDULED_BY
from salesintel_dagster.defs.smartgo_export import JOB, SCHEDULE

LOCATION = "salesintel_dagster_tests.defs.crash_location"
LAUNCHER = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
NIGHT = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=1)
OF_SENSORS = ("TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")
OF_SCHEDULES = ("TICK_CREATED", "TICK_HELD", "RUN_CREATED", "RUN_LAUNCHED", "RUN_ADDED", "TICK_SUCCESS")
LOGGER = logging.getLogger("daemon")
Flags = dict[str, dict[str, int]]


def tick_sensors(context: Any, _: datetime, flags: Flags) -> None:  # noqa: ANN401 - Dagster's own process context
    for told in execute_sensor_iteration(context, LOGGER, None, None, debug_crash_flags=flags):  # type: ignore[arg-type]
        assert told is None


def tick_schedules(context: Any, now: datetime, flags: Flags) -> None:  # noqa: ANN401 - same
    for told in launch_scheduled_runs(context, LOGGER, now, {}, debug_crash_flags=flags):  # type: ignore[arg-type]
        assert told is None or hasattr(told, "cron_schedule"), told


Tick = Callable[[Any, datetime, Flags], None]


def in_a_fork(act: Callable[[], None]) -> int:
    """Run it in a process of its own; return the signal that ended it, 0 where it ended by itself."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - told, then this process is over
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status <= 0, "a daemon failed by itself"
    return -status


def daemon(home: Path, tick: Tick, times: list[datetime], flags: Flags, told: Path | None = None) -> None:
    """Tick at each of the times; write down which runs there are."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=LOCATION, attribute="defs")
    workspace = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name="crash"))
    with (
        instance_for_test(overrides={"run_launcher": LAUNCHER}, temp_dir=str(home)) as instance,
        create_test_daemon_workspace_context(workspace, instance) as context,
    ):
        for now in times:
            with freeze_time(now):
                tick(context, now, flags)
        if told is not None:
            runs = [described(run) for run in instance.get_runs() if run.status is not dg.DagsterRunStatus.SUCCESS]
            told.write_text(json.dumps(sorted(runs)))


def described(run: dg.DagsterRun) -> list[str]:
    days = run.tags.get(PARTITION) or f"{run.tags.get(RANGE_START, '')} {run.tags.get(RANGE_END, '')}"
    return [run.job_name, days.strip(), run.status.value]


def prepare(home: Path) -> None:
    """Make a history that lacks days since its first night, and let the schedule have been on before its time."""
    home.mkdir(parents=True)
    with instance_for_test(overrides={"run_launcher": LAUNCHER}, temp_dir=str(home)) as instance:
        first = (NIGHT - timedelta(days=5)).date().isoformat()
        instance.report_runless_asset_event(dg.AssetMaterialization("smartgo_sales", partition=first))
        night = {SCHEDULED_BY: SCHEDULE, PARTITION: first}
        instance.add_run(dg.DagsterRun(JOB, tags=night, status=dg.DagsterRunStatus.SUCCESS))
    daemon(home, tick_schedules, [NIGHT - timedelta(minutes=1)], {})


def died_at(folder: Path, tick: Tick, name: str, point: str) -> dict[str, object]:
    """Kill a daemon at a point, then let another tick twice; `runs` are those made since."""
    home = folder / f"{name}-{point}"
    shutil.copytree(folder / "before", home)
    ended = in_a_fork(lambda: daemon(home, tick, [NIGHT + timedelta(seconds=10)], {name: {point: signal.SIGKILL}}))
    told = home / "runs.json"
    again = [NIGHT + timedelta(minutes=minutes) for minutes in (12, 24)]
    assert in_a_fork(lambda: daemon(home, tick, again, {}, told)) == 0
    return {"ended": ended, "runs": json.loads(told.read_text())}


def clock_set_back(folder: Path) -> dict[str, object]:
    """Tick, set the clock back by a quarter of an hour, and tick on from there, past the night once more."""
    home = folder / "set-back"
    shutil.copytree(folder / "before", home)
    told = home / "runs.json"
    times = [NIGHT + timedelta(minutes=minutes) for minutes in (1, -14, 1, 16, 61)]
    ended = in_a_fork(lambda: daemon(home, tick_schedules, times, {}, told))
    return {"ended": ended, "runs": json.loads(told.read_text())}


def main() -> None:
    """Go through every case."""
    folder = Path(sys.argv[1])
    prepare(folder / "before")  # in this process: what it imports, no fork imports again
    found = {f"smartgo_nightly {at}": died_at(folder, tick_schedules, "smartgo_nightly", at) for at in OF_SCHEDULES}
    found["clock set back"] = clock_set_back(folder)
    found["no crash"] = died_at(folder, tick_sensors, "smartgo_missing_days", "-")
    for name in ("smartgo_missing_days", "carousel_sync_queue"):
        found |= {f"{name} {at}": died_at(folder, tick_sensors, name, at) for at in OF_SENSORS}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
