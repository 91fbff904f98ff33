"""Upkeep of sales_history that dies at any write, commit or delete, with the sync going on beside it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.table_layout import HISTORY_TABLE
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import table_keepers
from salesintel_dagster_tests.adapters.test_history_table import (
    DAY,
    assert_unique_at_every_snapshot,
    ids,
    once,
    put,
    table_on,
)
from salesintel_dagster_tests.adapters.test_table_upkeep_crashes import every_death
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.events import TENANT
from salesintel_dagster_tests.fakes.keyed_table import sold_event
from salesintel_dagster_tests.lakes import Disturbed, local_catalog
from salesintel_dagster_tests.upkept_tables import RULES, later

COMMITS = 3
CORRECTED = sold_event("2", eventVersion=2, salePrice=1)
"""Its row takes the place of one that is being compacted."""


def keeper_of(catalog: Catalog) -> IcebergTableKeeper:
    return IcebergTableKeeper(lambda: catalog, held_clock(), HISTORY_TABLE)


def written_in_small_commits(catalog: Catalog) -> None:
    for number in range(COMMITS):
        put(table_on(catalog), sold_event(f"{number}"))


def test_the_daily_upkeep_looks_after_it() -> None:
    assert HISTORY_TABLE in [keeper.name for keeper in table_keepers(Settings())]


@pytest.mark.slow
def test_a_compaction_that_dies_beside_the_sync_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """D13, D14"""

    def write() -> None:
        with closing(local_catalog(tmp_path / "table")) as own:  # another process: it does not die
            put(table_on(own), sold_event("new"), sold_event("1"), CORRECTED)

    def compact(catalog: Catalog) -> None:
        Disturbed(catalog, before=once(write))
        keeper_of(catalog).compact(RULES, later())

    deaths = 0
    for found in every_death(tmp_path, written_in_small_commits, compact):
        deaths += 1
        expected = [str(number) for number in range(COMMITS)]
        assert set(ids(table_on(found))) - {"new"} == set(expected)
        put(table_on(found), sold_event("new"), sold_event("1"), CORRECTED)
        keeper_of(found).compact(RULES, later())
        keeper_of(found).expire(RULES, later())
        keeper_of(found).remove(RULES, later())
        assert ids(table_on(found)) == [*expected, "new"]
        assert table_on(found).of_day(TENANT, DAY)["2"] == CORRECTED.record.payload_hash
        assert_unique_at_every_snapshot(found)
        survey = keeper_of(found).survey(RULES, later())
        assert survey is not None
        assert (survey.rows, survey.data_files) == (COMMITS + 1, 1)
    assert deaths > COMMITS
