"""A4: what the export remembers of the reading it was made from, and how a look-back uses it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.domain.errors import CommitConflict, SourceUnavailable
from salesintel_dagster.domain.fingerprint import FINGERPRINT_PROPERTY
from salesintel_dagster.flows.export.backfill import DayFailed
from salesintel_dagster.flows.export.day import StageDone
from salesintel_dagster.flows.export.late_days import LookBack
from salesintel_dagster.flows.export.run import SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import sale_row

DAY = date(2026, 11, 3)
EMPTY = date(2026, 11, 4)
NIGHT = datetime.combine(DAY, time(23), UTC)


@pytest.fixture
def world() -> FakeExport:
    opened = FakeExport()
    opened.sell(DAY, 3)
    return opened


def late(world: FakeExport, *days: date) -> list[date]:
    look_back = LookBack(world.source, world.table, world.store, "smartgo", ZoneInfo("UTC"))
    return [found.day for found in look_back.compare(days) if found.differs]


def test_an_exported_day_agrees_with_its_source_without_a_row_being_read(world: FakeExport):
    """A4"""
    world.run(DAY)
    reads = len(world.source.reads)
    assert late(world, DAY) == []
    assert len(world.source.reads) == reads


def test_a_row_that_came_late_makes_the_day_differ_until_it_is_exported(world: FakeExport):
    """A4"""
    world.run(DAY)
    world.source.rows.append(sale_row(NIGHT, 99))
    assert late(world, DAY) == [DAY]
    world.run(DAY)
    assert "S-000099" in {row["sale_id"] for row in world.rows_of(DAY)}
    assert late(world, DAY) == []


def test_a_changed_price_and_a_row_that_is_gone_make_the_day_differ(world: FakeExport):
    """A4"""
    world.run(DAY)
    before = list(world.source.rows)
    world.source.rows[0] = {**before[0], "sold_price": Decimal("19.91")}
    assert late(world, DAY) == [DAY]
    world.source.rows = before[1:]
    assert late(world, DAY) == [DAY]
    world.source.rows = list(reversed(before))
    assert late(world, DAY) == []


def test_a_reading_that_was_never_committed_is_not_taken_for_the_table(world: FakeExport):
    """The staged file is newer than the table after a failed commit, and after a person read the raw asset alone."""
    world.run(DAY)
    world.source.rows.append(sale_row(NIGHT, 99))
    world.table.fail(CommitConflict("lost"))
    assert isinstance(world.run(DAY)[-1], DayFailed)
    assert late(world, DAY) == [DAY]
    list(world.backfill().run([DAY], frozenset({SALES_RAW}), frozenset()))
    assert late(world, DAY) == [DAY]


def test_a_day_without_sales_is_remembered_by_its_staged_file(world: FakeExport):
    assert late(world, EMPTY) == [EMPTY]
    world.run(EMPTY)
    assert world.table.commits == []
    assert late(world, EMPTY) == []
    world.source.rows.append(sale_row(datetime.combine(EMPTY, time(1), UTC), 7, sold_price=Decimal(-1)))
    assert late(world, EMPTY) == [EMPTY]
    world.run(EMPTY)
    assert world.table.commits == []
    assert late(world, EMPTY) == []


def test_a_staged_file_speaks_only_for_a_day_without_sales(world: FakeExport):
    """A reading that was staged and not committed is not what the table holds."""
    raw = frozenset({SALES_RAW})
    list(world.backfill().run([DAY], raw, frozenset()))
    assert late(world, DAY) == [DAY]
    world.run(DAY)
    scope, _ = world.table.commits[-1]
    world.table.commits[-1] = (scope, {})
    world.source.rows = []
    list(world.backfill(export_rules(allow_empty=True)).run([DAY], raw, frozenset()))
    assert late(world, DAY) == [DAY]


def test_a_commit_that_is_forgotten_makes_its_day_differ_once(world: FakeExport):
    """Snapshots expire: what is not known any more is exported again, which makes it known."""
    world.run(DAY)
    scope, properties = world.table.commits[-1]
    world.table.commits[-1] = (scope, {k: v for k, v in properties.items() if k != FINGERPRINT_PROPERTY})
    assert late(world, DAY) == [DAY]
    world.run(DAY)
    assert late(world, DAY) == []


def test_a_source_that_is_down_says_so(world: FakeExport):
    world.run(DAY)
    world.source.fail(SourceUnavailable("down"))
    with pytest.raises(SourceUnavailable):
        late(world, DAY)


def test_a_commit_names_the_reading_of_its_rows_whatever_another_run_stages_meanwhile(world: FakeExport):
    """A8: a property that names another reading than the rows' would let a late row be forgotten."""
    world.run(DAY)
    raw = f"staging/smartgo/{SALES_RAW}/{DAY}.parquet"
    older = world.store.objects[raw]
    world.source.rows[0] = {**world.source.rows[0], "sold_price": Decimal("19.91")}
    list(world.backfill().run([DAY], frozenset({SALES_RAW}), frozenset()))
    world.table = PutsBack(world, raw, older)
    list(world.backfill().run([DAY], frozenset({SMARTGO_SALES}), frozenset()))
    assert Decimal("19.91") in {row["sold_price"] for row in world.rows_of(DAY)}
    assert late(world, DAY) == []


def test_a_commit_takes_what_is_staged_when_it_begins(world: FakeExport):
    """A8: another run of the day has read the source again since our first stages read what we had staged."""
    for step in world.backfill().run([DAY], ALL_STAGES, ALL_CHECKS):
        if isinstance(step[1], StageDone) and step[1].stage == TITAN_EMBEDDINGS:
            world.source.rows[0] = {**world.source.rows[0], "sold_price": Decimal("19.91")}
            list(world.backfill(run_id="run-2").run([DAY], frozenset({SALES_RAW}), frozenset()))
    assert Decimal("19.91") in {row["sold_price"] for row in world.rows_of(DAY)}
    assert late(world, DAY) == []


class PutsBack(InMemorySalesTable):
    """A table before whose replacement another run's older staged file is put back."""

    def __init__(self, world: FakeExport, key: str, body: bytes) -> None:
        super().__init__()
        self.world, self.key, self.body = world, key, body

    def replace_day(self, *words: object, **named: object) -> object:
        self.world.store.objects[self.key] = self.body
        return super().replace_day(*words, **named)
