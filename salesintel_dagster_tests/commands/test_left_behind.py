from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from salesintel_dagster.commands.left_behind import FOLDER, TAG, command_line


@dg.job
def nothing():
    pass


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


def _run_of(instance: dg.DagsterInstance, name: str, status: dg.DagsterRunStatus) -> str:
    return instance.create_run_for_job(nothing, tags={TAG: name}, status=status).run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_what_a_killed_command_line_left_is_ended(
    instance: dg.DagsterInstance, locks: Path, status: dg.DagsterRunStatus
):
    """J1"""
    (locks / "dead.lock").touch()
    run = _run_of(instance, "dead", status)
    with command_line(instance, locks.parent):
        assert _status(instance, run) is dg.DagsterRunStatus.FAILURE
        assert not (locks / "dead.lock").exists()


def test_a_run_that_ended_well_stays_as_it_is(instance: dg.DagsterInstance, locks: Path):
    (locks / "dead.lock").touch()
    run = _run_of(instance, "dead", dg.DagsterRunStatus.SUCCESS)
    with command_line(instance, locks.parent):
        assert _status(instance, run) is dg.DagsterRunStatus.SUCCESS


def test_what_a_living_command_line_does_is_left_alone(instance: dg.DagsterInstance, locks: Path):
    run = _run_of(instance, "alive", dg.DagsterRunStatus.STARTED)
    with (locks / "alive.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with command_line(instance, locks.parent):
            assert _status(instance, run) is dg.DagsterRunStatus.STARTED
    assert (locks / "alive.lock").exists()


def test_a_command_line_is_seen_as_living_while_it_exports_and_leaves_nothing(
    instance: dg.DagsterInstance, tmp_path: Path
):
    with command_line(instance, tmp_path) as name:
        run = _run_of(instance, name, dg.DagsterRunStatus.STARTED)
        with command_line(instance, tmp_path) as other:
            assert name != other
            assert _status(instance, run) is dg.DagsterRunStatus.STARTED
    assert list((tmp_path / FOLDER).iterdir()) == []
