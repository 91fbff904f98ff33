from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from salesintel_dagster_tests.fakes.sales_table import day_scope
from salesintel_dagster_tests.lakes import SALES, local_catalog
from salesintel_dagster_tests.upkept_tables import (
    DAYS,
    RULES,
    Died,
    Mortal,
    assert_every_retained_snapshot_can_be_read,
    forgetful,
    keeper_of,
    later,
    replaced,
    scattered,
    survey,
    upkeep,
    whole,
)

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("compact", "expire", "remove")
CHILD = """
import itertools, sys
from pathlib import Path
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.upkept_tables import DAYS, RULES, forgetful, keeper_of, later, replaced, scattered

catalog = local_catalog(Path(sys.argv[1]))
for round in itertools.count():
    scattered(catalog)
    for step in ("compact", "expire", "remove"):
        print(step, flush=True)
        getattr(keeper_of(catalog), step)(RULES, later())
"""


ONE = day_scope("2026-10-30", "a")
QUIET = [day_scope("2026-10-28", "a"), day_scope("2026-10-29", "a")]


def worn(catalog: Catalog) -> None:
    """A table with work for every step: small files, manifests of one month, old snapshots, unreferenced files."""
    for scope in QUIET:
        replaced(catalog, scope, 2)  # a file of its own in a manifest of its own: only the regrouping touches it
    scattered(catalog, [ONE], count=2)
    forgetful(catalog, 1)
    for _ in range(3):
        replaced(catalog, ONE, 2)
    keeper_of(catalog).expire(RULES, later())
    scattered(catalog, [ONE])


def every_death(
    folder: Path, prepare: Callable[[Catalog], None], act: Callable[[Catalog], object]
) -> Iterator[Catalog]:
    """Let `act` die at each of its writes, commits and deletes; yield the table as another process finds it then."""
    place, kept = folder / "table", folder / "kept"
    with closing(local_catalog(place)) as catalog:
        prepare(catalog)
    shutil.copytree(place, kept)
    with closing(local_catalog(place)) as catalog, Mortal(catalog).watching() as counted:
        act(catalog)
    assert counted.events > 1
    for dies_at in range(1, counted.events + 1):
        shutil.rmtree(place)
        shutil.copytree(kept, place)
        with closing(local_catalog(place)) as catalog, Mortal(catalog, dies_at).watching(), pytest.raises(Died):
            act(catalog)
        with closing(local_catalog(place)) as found:
            yield found


@pytest.mark.parametrize("step", STEPS)
def test_upkeep_that_dies_at_any_write_commit_or_delete_changes_no_row(tmp_path: Path, step: str) -> None:
    """D14"""
    expected: list[object] = []

    def prepare(catalog: Catalog) -> None:
        worn(catalog)
        expected[:] = whole(catalog)

    deaths = 0
    for found in every_death(tmp_path, prepare, lambda catalog: getattr(keeper_of(catalog), step)(RULES, later())):
        deaths += 1
        assert whole(found) == expected
        upkeep(found)
        assert whole(found) == expected
        assert (survey(found).data_files, survey(found).manifests) == (3, 1)
        assert_every_retained_snapshot_can_be_read(found)
    # 8 of the 12 are the compaction's, the rest the regrouping's.
    assert deaths >= {"compact": 12, "expire": 3, "remove": 8}[step]


def test_what_an_export_leaves_behind_when_it_dies_is_listed_and_removed_when_it_is_old(tmp_path: Path) -> None:
    """D4"""
    left: list[int] = []
    for found in every_death(
        tmp_path, lambda catalog: replaced(catalog, ONE, 4), lambda catalog: replaced(catalog, ONE, 4, first=50)
    ):
        before = whole(found)
        assert len(before) == 4
        assert survey(found, datetime.now(UTC) + timedelta(days=2)).to_remove == ()
        left.append(len(survey(found).to_remove))
        assert keeper_of(found).remove(RULES, later()).items == left[-1]
        assert survey(found).to_remove == ()
        assert whole(found) == before
        assert_every_retained_snapshot_can_be_read(found)
    assert max(left) >= 4, "a data file, two manifests and their lists"


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_table_whose_upkeep_is_killed_is_whole(tmp_path: Path, step: str) -> None:
    """D14: SIGKILL in the second round, at whatever the step is doing."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = 0
        for line in child.stdout:
            seen += line.strip() == step
            if seen == 2:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with closing(local_catalog(tmp_path)) as catalog:
        before = whole(catalog)
        assert len(before) == 24
        upkeep(catalog)
        assert whole(catalog) == before
        assert_every_retained_snapshot_can_be_read(catalog)
        assert replaced(catalog, DAYS[0], 3) == 1


def test_a_reader_during_upkeep_sees_every_row_once(tmp_path: Path) -> None:
    """D12"""
    ended = threading.Event()
    seen: list[list[str]] = []
    errors: list[BaseException] = []

    def read() -> None:
        try:
            with closing(local_catalog(tmp_path)) as own:
                while not ended.is_set():
                    seen.append(sorted(own.load_table(SALES).scan().to_arrow()["sale_id"].to_pylist()))
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)

    with closing(local_catalog(tmp_path)) as catalog:
        scattered(catalog, DAYS[:1])
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(2):
            scattered(catalog, DAYS[:1])
            upkeep(catalog)
        ended.set()
        reader.join()
    assert errors == []
    assert len(seen) > 3
    assert all(rows == seen[0] for rows in seen)
