from __future__ import annotations

from datetime import date

from salesintel_dagster.commands.demo import _spans


def _day(number: int) -> date:
    return date(2026, 10, number)


def test_days_in_a_row_are_one_range():
    assert _spans([_day(1), _day(2), _day(3)]) == [[_day(1), _day(2), _day(3)]]


def test_a_single_day_without_sales_is_exported_as_an_empty_day():
    assert _spans([_day(1), _day(3)]) == [[_day(1), _day(2), _day(3)]]


def test_a_gap_of_more_than_two_weeks_is_left_out():
    assert _spans([_day(1), _day(16), _day(17)]) == [[_day(1)], [_day(16), _day(17)]]
    assert len(_spans([_day(1), _day(15)])) == 1
