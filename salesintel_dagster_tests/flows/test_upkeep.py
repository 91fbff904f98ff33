from __future__ import annotations

import pytest

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import CommitConflict, TableUnavailable
from salesintel_dagster.domain.upkeep import Step, UpkeepRules
from salesintel_dagster.flows.upkeep import Upkept, look_after, size
from salesintel_dagster_tests.fakes.table_keeper import ScriptedTableKeeper


def upkeep(keeper: ScriptedTableKeeper, *, dry_run: bool = False) -> Upkept:
    return look_after(keeper, UpkeepRules(), SYSTEM_CLOCK, dry_run=dry_run)


def test_a_dry_run_tells_what_would_be_done_and_does_nothing():
    keeper = ScriptedTableKeeper()
    upkept = upkeep(keeper, dry_run=True)
    assert keeper.acts == []
    assert not upkept.applied
    assert upkept.lines == (
        "smartgo_sales: small files and manifests to write as fewer: 0",
        "smartgo_sales: snapshots to expire: 1",
        "smartgo_sales: unreferenced files to remove: 1 (2.5 MB)",
    )


def test_files_are_compacted_before_snapshots_go_and_removed_last():
    keeper = ScriptedTableKeeper()
    upkept = upkeep(keeper)
    assert keeper.acts == list(Step)
    assert upkept.applied
    assert upkept.survey is not None
    assert upkept.survey.last_upkeep is not None, "the survey is of the table as it is now"
    assert upkept.lines[0] == "smartgo_sales: small files and manifests written as fewer: 3 (900 B)"
    assert upkept.failures == ()


@pytest.mark.parametrize("step", Step)
def test_a_step_that_fails_stops_no_other_and_is_told(step: Step):
    """D13"""
    keeper = ScriptedTableKeeper(failing={step.value: CommitConflict("another writer was first")})
    upkept = upkeep(keeper)
    assert keeper.acts == list(Step)
    assert upkept.failures == (f"smartgo_sales: {step.value}: another writer was first",)
    assert any("FAILED: another writer was first" in line for line in upkept.lines)


def test_a_table_that_cannot_be_asked_is_told_and_nothing_is_done():
    keeper = ScriptedTableKeeper(failing={"survey": TableUnavailable("catalog is down")})
    upkept = upkeep(keeper)
    assert (keeper.acts, upkept.failures) == ([], ("smartgo_sales: catalog is down",))
    assert upkept.lines == upkept.failures


def test_a_table_that_was_never_made_needs_nothing():
    keeper = ScriptedTableKeeper(made=False)
    upkept = upkeep(keeper)
    assert (keeper.acts, upkept.failures) == ([], ())
    assert upkept.lines == ("smartgo_sales: not made yet; its first rows make it",)


def test_what_s3_tables_does_itself_is_said_and_skipped():
    lines = upkeep(ScriptedTableKeeper(managed=True), dry_run=True).lines
    assert [line.partition(" skipped: ")[0] for line in lines[1:]] == ["smartgo_sales: expire", "smartgo_sales: remove"]
    assert "S3 Tables" in lines[1]


@pytest.mark.parametrize(
    "count,told", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_340_000, "12.3 MB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes_are_for_people(count: int, told: str):
    assert size(count) == told
