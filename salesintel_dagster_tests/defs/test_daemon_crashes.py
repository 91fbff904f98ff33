"""J3, F22: Dagster's daemon dies at each of its debug crash points; the next one leaves no day out and none twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from salesintel_dagster_tests.defs.crash_points import NIGHT, OF_SCHEDULES, OF_SENSORS

SIGKILL = 9
MOST_SYNC_RUNS = 2
"""F22: one and at most one more, which finds nothing to do."""

Found = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    script = "salesintel_dagster_tests.defs.crash_points"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", script, str(tmp_path_factory.mktemp("homes") / "of")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Found = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_j3_a_schedule_tick_that_dies_exports_its_day_once(found: Found):
    day = str(NIGHT.date().fromordinal(NIGHT.date().toordinal() - 1))
    for point in OF_SCHEDULES:
        case = found[f"smartgo_nightly {point}"]
        assert case["ended"] == SIGKILL, point
        assert case["runs"] == [["smartgo_daily_export", day, "QUEUED"]], point


@pytest.mark.slow
def test_j3_a_sensor_tick_that_dies_asks_for_each_missing_day_once(found: Found):
    expected = [run for run in found["smartgo_missing_days -"]["runs"] if run[0] == "smartgo_daily_export"]  # type: ignore[attr-defined]
    assert expected
    for point in OF_SENSORS:
        case = found[f"smartgo_missing_days {point}"]
        assert case["ended"] == SIGKILL, point
        exports = [run for run in case["runs"] if run[0] == "smartgo_daily_export"]  # type: ignore[attr-defined]
        assert exports == expected, point


@pytest.mark.slow
def test_f22_a_daemon_that_dies_between_request_and_launch_makes_at_most_one_run_too_many(found: Found):
    """F22: a second run does nothing to the data: it finds an empty queue, or is the harness's second worker"""
    for point in OF_SENSORS:
        case = found[f"carousel_sync_queue {point}"]
        assert case["ended"] == SIGKILL, point
        runs = [run for run in case["runs"] if run[0] == "carousel_sync"]  # type: ignore[attr-defined]
        assert 1 <= len(runs) <= MOST_SYNC_RUNS, point
        assert ["carousel_sync", "", "QUEUED"] in runs, point
