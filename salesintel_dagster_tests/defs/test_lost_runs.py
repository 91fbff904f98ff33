from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from salesintel_dagster.defs.lost_runs import BY_TAG, LOST, end_lost_runs
from salesintel_dagster.defs.smartgo_export import JOB, STEP
from salesintel_dagster_tests.defs.worlds import DagsterExport

POOLS = {"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}
Status = dg.DagsterRunStatus


@pytest.fixture
def export(tmp_path: Path) -> Iterator[DagsterExport]:
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=POOLS) as instance:
        yield DagsterExport(instance)


def begun(export: DagsterExport, status: dg.DagsterRunStatus, **tags: str) -> str:
    job = export.definitions.resolve_job_def(JOB)
    return export.instance.create_run_for_job(job, status=status, tags=tags).run_id


def status_of(export: DagsterExport, run_id: str) -> dg.DagsterRunStatus:
    run = export.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize("status", [Status.STARTING, Status.STARTED, Status.CANCELING])
def test_a_run_that_a_gone_daemon_had_launched_is_ended_with_a_reason(export: DagsterExport, status: Status):
    """J1, J14"""
    run_id = begun(export, status)
    assert end_lost_runs(export.instance) == [run_id]
    assert status_of(export, run_id) is Status.FAILURE
    assert LOST in [entry.message for entry in export.instance.all_logs(run_id)]
    assert end_lost_runs(export.instance) == []


def test_its_place_in_the_pool_is_free_again(export: DagsterExport):
    """J1"""
    run_id = begun(export, Status.STARTED)
    storage = export.instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(STEP)
    assert storage.claim_concurrency_slot(STEP, run_id, "step").is_claimed
    assert not storage.claim_concurrency_slot(STEP, "another", "step").is_claimed
    end_lost_runs(export.instance)
    assert storage.claim_concurrency_slot(STEP, "another", "step").is_claimed


@pytest.mark.parametrize("status", [Status.NOT_STARTED, Status.SUCCESS, Status.FAILURE, Status.CANCELED])
def test_a_run_that_waits_or_has_ended_is_left_alone(export: DagsterExport, status: Status):
    run_id = begun(export, status)
    assert end_lost_runs(export.instance) == []
    assert status_of(export, run_id) is status


def test_a_run_inside_a_command_may_live_and_is_left_alone(export: DagsterExport):
    run_id = begun(export, Status.STARTED, **{BY_TAG: "cli"})
    assert end_lost_runs(export.instance) == []
    assert status_of(export, run_id) is Status.STARTED
