from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import (
    Hemisphere,
    Season,
    day_window,
    days_between,
    quarter,
    season,
    season_year,
)

ZONES = (
    "UTC",
    "Europe/Vilnius",
    "Pacific/Auckland",
    "America/New_York",
    "America/Sao_Paulo",  # its clocks went forward at midnight
    "America/St_Johns",  # its clocks went back at 00:01, so that midnight came twice
    "America/Havana",  # its clocks go back from 01:00 to midnight
    "Pacific/Apia",  # has no 30 December 2011
    "Asia/Kathmandu",
)
INSTANTS = st.integers(0, 50 * 365 * 24 * 3600 * 10**6).map(
    lambda us: datetime(1987, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


@given(instant=INSTANTS, zone=st.sampled_from(ZONES))
def test_every_instant_lies_in_exactly_one_partition(instant: datetime, zone: str):
    """A3."""
    near = [instant.date() + timedelta(days=n) for n in range(-3, 4)]
    holding = [
        window for window in (day_window(day, ZoneInfo(zone)) for day in near) if window.start <= instant < window.end
    ]
    assert len(holding) == 1


@given(first=st.dates(date(1987, 1, 1), date(2037, 12, 31)), zone=st.sampled_from(ZONES))
def test_partitions_follow_one_another_without_gap_or_overlap(first: date, zone: str):
    """A3."""
    windows = [day_window(day, ZoneInfo(zone)) for day in days_between(first, first + timedelta(days=30))]
    assert all(earlier.end == later.start for earlier, later in pairwise(windows))
    assert all(window.start <= window.end for window in windows)
    assert all(window.start.tzinfo is UTC and window.end.tzinfo is UTC for window in windows)


@given(instant=INSTANTS, zone=st.sampled_from(["UTC", "Europe/Vilnius", "Pacific/Auckland", "Asia/Kathmandu"]))
def test_a_partition_is_the_local_calendar_day(instant: datetime, zone: str):
    day = instant.astimezone(ZoneInfo(zone)).date()
    window = day_window(day, ZoneInfo(zone))
    assert window.start <= instant < window.end


@pytest.mark.parametrize(
    "zone,day,hours",
    [
        ("UTC", date(2026, 3, 29), 24),
        ("Europe/Vilnius", date(2026, 3, 29), 23),
        ("Europe/Vilnius", date(2026, 10, 25), 25),
        ("Pacific/Auckland", date(2026, 9, 27), 23),
        ("Pacific/Auckland", date(2026, 4, 5), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Havana", date(2025, 11, 2), 25),
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_a_partition_is_as_long_as_its_day(zone: str, day: date, hours: int):
    """A3."""
    window = day_window(day, ZoneInfo(zone))
    assert window.end - window.start == timedelta(hours=hours)


@pytest.mark.parametrize(
    "month,north,south",
    [
        (1, Season.WINTER, Season.SUMMER),
        (2, Season.WINTER, Season.SUMMER),
        (3, Season.SPRING, Season.AUTUMN),
        (5, Season.SPRING, Season.AUTUMN),
        (6, Season.SUMMER, Season.WINTER),
        (8, Season.SUMMER, Season.WINTER),
        (9, Season.AUTUMN, Season.SPRING),
        (11, Season.AUTUMN, Season.SPRING),
        (12, Season.WINTER, Season.SUMMER),
    ],
)
def test_seasons_are_whole_months_and_turn_with_the_hemisphere(month: int, north: Season, south: Season):
    for day in (date(2026, month, 1), date(2026, month, 28)):
        assert season(day, Hemisphere.NORTH) is north
        assert season(day, Hemisphere.SOUTH) is south


def test_a_season_that_goes_over_new_year_keeps_the_year_in_which_it_began():
    winter = days_between(date(2025, 12, 1), date(2026, 2, 28))
    assert {(season(day, Hemisphere.NORTH), season_year(day)) for day in winter} == {(Season.WINTER, 2025)}
    assert season_year(date(2026, 3, 1)) == 2026


def test_quarters_are_those_of_the_calendar():
    assert [quarter(date(2026, month, 15)) for month in range(1, 13)] == [
        f"Q{number}" for number in (1, 2, 3, 4) for _ in range(3)
    ]


def test_a_range_of_days_holds_both_ends_and_may_be_empty():
    assert days_between(date(2024, 2, 28), date(2024, 3, 1)) == [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
    assert days_between(date(2024, 3, 1), date(2024, 2, 28)) == []
