"""The shipped Dagster instance under runs that are killed and runs that crowd: real processes on its SQLite files."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring import execute_concurrency_slots_iteration, execute_run_monitoring_iteration

from salesintel_dagster_tests.local.held_worlds import ROOT, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SHIPPED = ROOT / "salesintel_dagster" / "dagster.yaml"
QUICKER = {
    "start_timeout_seconds": 2,
    "max_runtime_seconds": 3,
    "poll_interval_seconds": 1,
    "free_slots_after_run_end_seconds": 1,
    "default_limit": 1,
    "max_retries": 0,
}
"""The shipped limits, as rules: the same file with these numbers in it."""
NO_LOG_FILES = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""Two `tail` processes a run cost a fifth of it and write nothing into SQLite."""
JOBS = """
import os, sys, time
import dagster as dg


@dg.op(pool="one_place")
def hold(context):
    print("held", flush=True)
    time.sleep(float(os.environ["HOLD_SECONDS"]))


@dg.job(executor_def=dg.in_process_executor)
def holding():
    hold()


@dg.job(executor_def=dg.in_process_executor)
def writing():
    pass

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        job = writing if int(os.environ["RUNS"]) > 1 else holding
        for _ in range(int(os.environ["RUNS"])):
            assert job.execute_in_process(instance=instance).success
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    text = SHIPPED.read_text()
    for name, number in QUICKER.items():
        text, found = re.subn(rf"(\b{name}:) \d+", rf"\1 {number}", text)
        assert found == 1, name
    (tmp_path / "dagster.yaml").write_text(text + NO_LOG_FILES)
    return tmp_path


@contextmanager
def started(home: Path, *words: str, hold: float = 0, runs: int = 1) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"DAGSTER_HOME": str(home), "HOLD_SECONDS": str(hold), "RUNS": str(runs)}
    with (home / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def watched(instance: dg.DagsterInstance) -> Iterator[Callable[[], tuple[list[dg.DagsterRunStatus], int]]]:
    """Give one round of the daemon's two watches, at once instead of every 30 s, and what it left."""
    log = logging.getLogger("watched")
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as context:

        def look() -> tuple[list[dg.DagsterRunStatus], int]:
            watches = (execute_run_monitoring_iteration, execute_concurrency_slots_iteration)
            assert not [error for watch in watches for error in watch(context, log) if error is not None]
            return statuses(Path(instance.root_directory)), places_taken(Path(instance.root_directory))

        yield look


def statuses(home: Path) -> list[dg.DagsterRunStatus]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [run.status for run in instance.get_runs()]


def places_taken(home: Path) -> int:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return instance.event_log_storage.get_concurrency_info("one_place").active_slot_count


def test_a_run_killed_while_it_holds_its_pools_only_place_fails_and_the_next_one_runs(home: Path):
    """J1: the daemon ends it after its longest time and frees the place."""
    with started(home, "jobs.py", hold=600) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
    assert (statuses(home), places_taken(home)) == ([dg.DagsterRunStatus.STARTED], 1)
    with dg.DagsterInstance.from_config(str(home)) as instance, watched(instance) as look:
        eventually(lambda: look() == ([dg.DagsterRunStatus.FAILURE], 0), "the end of the killed run", 60)
    with started(home, "jobs.py") as following:
        assert following.wait(60) == 0, (home / "log").read_text()[-3000:]
    assert statuses(home) == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


def test_two_processes_write_200_runs_into_sqlite_without_a_locked_database(home: Path):
    """J8: the files are there, as `up` makes them first; two processes that make them at once do collide.

    The job has no step: what a step tells goes to the run's own file, what all runs share is written all the same.
    """
    assert statuses(home) == []
    with started(home, "jobs.py", runs=100) as one, started(home, "jobs.py", runs=100) as other:
        for process in (one, other):
            process.communicate(timeout=200)
            assert process.returncode == 0, (home / "log").read_text()[-3000:]
    assert statuses(home) == [dg.DagsterRunStatus.SUCCESS] * 200
    assert "database is locked" not in (home / "log").read_text()
