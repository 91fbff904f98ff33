"""The progress ledger is told what is new, seldom enough; a ledger that is down costs a warning and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import pytest

from salesintel_dagster.domain.progress import MAX_ERROR_CHARACTERS, MAX_ERRORS_KEPT, RunState
from salesintel_dagster.flows.export.run import REPORT_SECONDS, UNAVAILABLE_SECONDS, ProgressReporter
from salesintel_dagster_tests.fakes.export_run import RunForTests, export_run
from salesintel_dagster_tests.fakes.images import HeldClock
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger

DAY = date(2026, 11, 3)


@dataclass
class Reporting:
    ledger: InMemoryProgressLedger = field(default_factory=InMemoryProgressLedger)
    time: HeldClock = field(default_factory=HeldClock)

    def __post_init__(self) -> None:
        self.opened: RunForTests = export_run(DAY, clock=self.time.clock, ledger=self.ledger)

    @property
    def reporter(self) -> ProgressReporter:
        return self.opened.run.progress

    def pass_time(self, seconds: float) -> None:
        self.time.clock.sleep(seconds)


@pytest.fixture
def reporting() -> Reporting:
    return Reporting()


def test_a_hundred_updates_within_a_moment_are_one_write(reporting: Reporting):
    for sales in range(100):
        reporting.reporter.update(sales=sales)
    assert [record.sales for record in reporting.ledger.recorded] == [0]
    assert reporting.reporter.current.sales == 99


def test_the_next_write_has_the_newest_numbers(reporting: Reporting):
    reporting.reporter.update(sales=1)
    reporting.reporter.update(sales=2)
    reporting.pass_time(REPORT_SECONDS)
    reporting.reporter.update(images_ok=1)
    newest = reporting.ledger.newest(DAY)
    assert newest is not None
    assert (newest.sales, newest.images_ok) == (2, 1)
    assert newest.updated_at == reporting.time.clock.now() > newest.started_at


def test_a_new_stage_is_told_at_once(reporting: Reporting):
    reporting.reporter.update(sales=1)
    reporting.reporter.update(force=True, stage="product_images")
    assert [record.stage for record in reporting.ledger.recorded] == ["starting", "product_images"]


def test_the_final_record_is_written_whenever_it_comes(reporting: Reporting):
    reporting.reporter.update(sales=1)
    reporting.reporter.finish(RunState.SUCCEEDED, [], 0)
    newest = reporting.ledger.newest(DAY)
    assert newest is not None
    assert (newest.state, newest.finished_at) == (RunState.SUCCEEDED, reporting.time.clock.now())


def test_ten_thousand_errors_are_counted_and_the_first_are_kept_short(reporting: Reporting):
    """A23"""
    reporting.reporter.finish(RunState.FAILED, ["x" * 10_000] * 10_000, 10_000)
    newest = reporting.ledger.newest(DAY)
    assert newest is not None
    assert newest.error_count == 10_000
    assert newest.errors == ("x" * MAX_ERROR_CHARACTERS,) * MAX_ERRORS_KEPT


def test_a_ledger_that_is_down_is_told_once_and_left_alone_for_a_minute(reporting: Reporting):
    """A20"""
    reporting.ledger.down = True
    for _ in range(int(UNAVAILABLE_SECONDS) - 1):
        reporting.reporter.update(force=True, sales=1)
        reporting.pass_time(1)
    assert reporting.ledger.attempts == 1
    assert reporting.opened.said == [
        "[SmartGoExporter] Progress not recorded, the export goes on: the progress table is down"
    ]
    reporting.pass_time(1)
    reporting.reporter.update(sales=2)
    assert reporting.ledger.attempts == 2
    assert len(reporting.opened.said) == 1
    assert reporting.reporter.unavailable == "the progress table is down"


def test_a_ledger_that_is_back_gets_everything_and_the_warning_ends(reporting: Reporting):
    """A20"""
    reporting.ledger.down = True
    reporting.reporter.update(sales=7, images_ok=5)
    reporting.ledger.down = False
    reporting.pass_time(UNAVAILABLE_SECONDS)
    reporting.reporter.update(embedded=5)
    newest = reporting.ledger.newest(DAY)
    assert newest is not None
    assert (newest.sales, newest.images_ok, newest.embedded) == (7, 5, 5)
    assert reporting.reporter.unavailable is None


def test_the_final_record_that_a_ledger_missed_is_written_when_the_run_settles(reporting: Reporting):
    """A20"""
    reporting.ledger.down = True
    reporting.reporter.update(sales=7)
    reporting.ledger.down = False
    reporting.reporter.finish(RunState.SUCCEEDED, [], 0)
    assert reporting.ledger.recorded == []
    reporting.reporter.settle()
    newest = reporting.ledger.newest(DAY)
    assert newest is not None
    assert (newest.state, newest.sales) == (RunState.SUCCEEDED, 7)
    assert reporting.reporter.unavailable is None


def test_a_ledger_that_stays_down_raises_nothing_and_costs_one_try_a_minute_however_many_days(reporting: Reporting):
    """A20: a stalled table costs ten seconds a try; 30 days with two tries each were ten minutes."""
    reporting.ledger.down = True
    for day in range(30):
        reporting.reporter.begin(replace(reporting.reporter.current, day=DAY + timedelta(days=day)))
        reporting.reporter.update(force=True, sales=7)
        reporting.reporter.finish(RunState.SUCCEEDED, [], 0)
    assert reporting.ledger.attempts == 1
    reporting.reporter.settle()
    assert reporting.ledger.attempts == 2
    assert reporting.ledger.recorded == []


def test_every_day_that_a_ledger_missed_is_written_when_it_is_back(reporting: Reporting):
    """A20"""
    days = [DAY + timedelta(days=n) for n in range(4)]
    reporting.ledger.down = True
    for number, day in enumerate(days):
        reporting.ledger.down = number < 2
        reporting.reporter.begin(replace(reporting.reporter.current, day=day, state=RunState.RUNNING))
        reporting.pass_time(UNAVAILABLE_SECONDS / 2)
        reporting.reporter.finish(RunState.SUCCEEDED, [], 0)
    reporting.reporter.settle()
    reporting.reporter.settle()
    final = [record.day for record in reporting.ledger.recorded if record.state is RunState.SUCCEEDED]
    assert sorted(final) == days


def test_a_line_names_the_event_the_tenants_the_partition_and_facts():
    opened = export_run(DAY, "a-labs", "b-labs")
    opened.run.say("Found sales to export", sales=3, seconds="0.1")
    assert opened.said == [
        "[SmartGoExporter] Found sales to export tenant=a-labs,b-labs partition=2026-11-03 sales=3 seconds=0.1"
    ]
