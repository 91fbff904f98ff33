"""`make clean`: the world's folder, and what it keeps outside of it as root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from salesintel_dagster.domain.errors import WorldError
from salesintel_dagster.local.clean import clean
from salesintel_dagster.local.world_files import WorldFiles


def _world(home: Path) -> Path:
    """Make the files of a world and return its outside folder, with data in it."""
    files = WorldFiles(home)
    files.prepare()
    memory = files.recall()
    files.remember(memory)
    outside = files.reach(memory)
    (outside / "postgres").mkdir()
    (outside / "postgres" / "PG_VERSION").write_text("18")
    return outside


def test_a_world_goes_with_what_lies_outside_its_folder_and_no_other_world_does(tmp_path: Path):
    outside, other = _world(tmp_path / "home"), _world(tmp_path / "other")
    clean(tmp_path / "home")
    assert (outside.exists(), (tmp_path / "home").exists()) == (False, False)
    assert (other / "postgres" / "PG_VERSION").exists()
    clean(tmp_path / "other")
    assert not other.exists()
    clean(tmp_path / "never made")


def test_a_folder_under_the_same_name_that_is_not_of_a_lost_world_stays(tmp_path: Path):
    outside = _world(tmp_path / "home")
    (outside / "home").write_text(str(tmp_path / "no such folder" / "home"))  # an unmounted disk, not a deleted world
    clean(tmp_path / "home")
    assert outside.exists()
    (outside / "home").write_text(str(tmp_path / "home"))
    clean(tmp_path / "home")
    assert not outside.exists()


def test_a_world_that_runs_is_left_alone(tmp_path: Path):
    home = tmp_path / "home"
    outside = _world(home)
    lock = WorldFiles(home).try_lock("lock")
    assert lock is not None
    with pytest.raises(WorldError, match="is running"):
        clean(home)
    command = [sys.executable, "-m", "salesintel_dagster.local.clean", str(home)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "stop `salesintel up`" in told.stderr
    assert (outside / "postgres" / "PG_VERSION").exists()
    assert (home / "world.json").exists()
    os.close(lock)
    clean(home)
