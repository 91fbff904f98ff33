from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.local.world import _outlast_joiners
from salesintel_dagster.local.world_files import WorldFiles


def test_the_process_that_runs_the_world_outlasts_those_that_joined_it(tmp_path: Path):
    """K2"""
    files = WorldFiles(tmp_path / "home")
    files.prepare()
    told: list[str] = []
    joiners = ExitStack()
    joiners.enter_context(files.joined())
    joiners.enter_context(files.joined())
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            joiners.close()

    _outlast_joiners(files, told.append, replace(SYSTEM_CLOCK, sleep=sleep))
    assert len(waits) == 3
    assert len(told) == 1
    assert "waiting" in told[0]


def test_nobody_is_waited_for_where_nobody_joined(tmp_path: Path):
    files = WorldFiles(tmp_path / "home")
    files.prepare()
    told: list[str] = []
    _outlast_joiners(files, told.append, SYSTEM_CLOCK)
    assert told == []


def test_a_world_that_was_killed_is_run_by_nobody_and_no_longer_announced(tmp_path: Path):
    files = WorldFiles(tmp_path / "home")
    files.prepare()
    lock = files.try_lock("lock")
    assert lock is not None
    files.announce({"pid": "7"})
    assert files.is_run_by("7")
    assert not files.is_run_by("6"), "another one has started it anew"
    files.withdraw()
    assert files.is_run_by("7"), "it waits for those that joined it"
    files.announce({"pid": "7"})
    os.close(lock)  # as a kill does
    assert not files.is_run_by("7")
    assert files.announced() is None
