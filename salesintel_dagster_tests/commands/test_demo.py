from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from salesintel_dagster.commands.demo import _spans
from salesintel_dagster.commands.demo_report import counts, tell_data
from salesintel_dagster.commands.runs import RunOutcome
from salesintel_dagster.commands.session import Session
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger


def _day(number: int) -> date:
    return date(2026, 10, number)


def test_days_in_a_row_are_one_range():
    assert _spans([_day(1), _day(2), _day(3)]) == [[_day(1), _day(2), _day(3)]]


def test_a_single_day_without_sales_is_exported_as_an_empty_day():
    assert _spans([_day(1), _day(3)]) == [[_day(1), _day(2), _day(3)]]


def test_a_gap_of_more_than_two_weeks_is_left_out():
    assert _spans([_day(1), _day(16), _day(17)]) == [[_day(1)], [_day(16), _day(17)]]
    assert len(_spans([_day(1), _day(15)])) == 1


def test_where_no_day_made_the_table_there_is_no_question_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its answer, "there is no table", stood where the reason of the failure was to come."""
    monkeypatch.setenv("SALESINTEL_MODE", "aws")
    monkeypatch.setenv("SALESINTEL_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("SALESINTEL_WAREHOUSE", f"file://{tmp_path}/warehouse")
    opened = Session(Settings.from_environment(os.environ))
    opened.ledger = InMemoryProgressLedger()
    failed = RunOutcome("run-0", 1, success=False, failure="the disk is full", failed_checks=(), wrote=False)
    tell_data(opened, [_day(1)], counts(opened), [failed])
    assert capsys.readouterr().out.endswith("\n0 rows in the table (+0), 0 with a vector, 0 paid calls\n")
