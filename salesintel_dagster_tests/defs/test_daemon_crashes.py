"""J3, J13, F22: Dagster's daemon dies at each debug crash point; the next one leaves no day out and none twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from salesintel_dagster_tests.defs.crash_points import NIGHT, OF_SCHEDULES, OF_SENSORS

SIGKILL = 9
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
"""Thirty daemons: 25 CPU-s."""

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


def test_j3_a_schedule_tick_that_dies_exports_its_day_once(found: Found):
    day = str(NIGHT.date().fromordinal(NIGHT.date().toordinal() - 1))
    for point in OF_SCHEDULES:
        case = found[f"smartgo_nightly {point}"]
        assert case["ended"] == SIGKILL, point
        assert case["runs"] == [["smartgo_daily_export", day, "QUEUED"]], point


def test_j13_a_clock_that_is_set_back_over_the_night_exports_its_day_once(found: Found):
    day = str(NIGHT.date().fromordinal(NIGHT.date().toordinal() - 1))
    assert found["clock set back"] == {"ended": 0, "runs": [["smartgo_daily_export", day, "QUEUED"]]}


def test_j3_a_sensor_tick_that_dies_asks_for_each_missing_day_once(found: Found):
    expected = [run for run in found["no crash"]["runs"] if run[0] == "smartgo_daily_export"]  # type: ignore[attr-defined]
    assert expected
    for point in OF_SENSORS:
        case = found[f"smartgo_missing_days {point}"]
        assert case["ended"] == SIGKILL, point
        exports = [run for run in case["runs"] if run[0] == "smartgo_daily_export"]  # type: ignore[attr-defined]
        assert exports == expected, point


def test_f22_a_daemon_that_dies_between_request_and_launch_makes_at_most_one_run_too_many(found: Found):
    """F22: none too many, in fact; the harness shows that a second one would do nothing to the data"""
    for point in OF_SENSORS:
        case = found[f"carousel_sync_queue {point}"]
        assert case["ended"] == SIGKILL, point
        runs = [run for run in case["runs"] if run[0] == "carousel_sync"]  # type: ignore[attr-defined]
        assert runs == [["carousel_sync", "", "QUEUED"]], point
