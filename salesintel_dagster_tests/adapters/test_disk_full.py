"""J9: a disk that is full in the middle of an export, on a small file system of memory, which only root may mount."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from salesintel_dagster.adapters.folder_store import FolderObjectStore
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.flows.export.backfill import DayFailed
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.export_parts import FakeExport
from salesintel_dagster_tests.fakes.sales_table import day_scope
from salesintel_dagster_tests.lakes import ids, local_catalog

BEFORE, FULL = date(2026, 11, 3), date(2026, 11, 4)
SIZE_MB = 24
LEFT_BYTES = 16 * 1024
"""Room for the small files of a stage, and not for a day's vectors."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk here: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S607 - as mount above


def fill(place: Path) -> Path:
    filler = place / "filler"
    room = os.statvfs(place)
    filler.write_bytes(b"\0" * max(0, room.f_bavail * room.f_frsize - LEFT_BYTES))
    return filler


@pytest.mark.parametrize("what", ["objects", "warehouse", "temporary files"])
def test_a_full_disk_fails_the_day_cleanly_and_the_day_is_right_once_there_is_room(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    """J9"""
    world = FakeExport()
    places = dict.fromkeys(("objects", "warehouse", "temporary files"), tmp_path) | {what: small_disk}
    for name, place in places.items():
        (place / name).mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(places["temporary files"] / "temporary files"))
    catalog = local_catalog(places["warehouse"] / "warehouse")
    world.store = FolderObjectStore(places["objects"] / "objects")
    world.table = IcebergSalesTable(lambda: catalog, held_clock())
    first, second = world.sell(BEFORE, 40), world.sell(FULL, 40)
    world.run(BEFORE)
    assert ids(world.table, day_scope(str(BEFORE))) == first
    filler = fill(small_disk)
    failed = [step for step in world.run(FULL) if isinstance(step, DayFailed)]
    assert [("space" in one.reason.lower(), str(FULL)) for one in failed] == [(True, str(FULL))], failed
    assert ids(world.table, day_scope(str(BEFORE))) == first
    assert ids(world.table, day_scope(str(FULL))) == []
    filler.unlink()
    assert not [step for step in world.run(FULL) if isinstance(step, DayFailed)]
    assert (ids(world.table, day_scope(str(BEFORE))), ids(world.table, day_scope(str(FULL)))) == (first, second)
    catalog.close()


FILLING = """
from salesintel_dagster.flows.export.day_index import DayIndex
from salesintel_dagster.flows.temporary_database import CACHE_KIB
index = DayIndex()
try:
    for number in range(4 * CACHE_KIB):
        index.add(number.to_bytes(4), bytes(1024))
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_told_of_what_a_day_keeps_there(small_disk: Path):
    """J9: in a process of its own, because SQLite asks once where temporary files go."""
    fill(small_disk)
    words = [sys.executable, "-c", FILLING]
    said = subprocess.run(
        words, env=os.environ | {"TMPDIR": str(small_disk)}, capture_output=True, text=True, check=True
    )
    assert "No space left on device" in said.stdout
