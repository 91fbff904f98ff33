"""Partition days, quarters and seasons: pure functions of a date and a zone, never of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class DayWindow:
    """Partition `day` as the half-open instant range `[start, end)`, both aware and in UTC."""

    day: date
    zone: ZoneInfo
    start: datetime
    end: datetime


def day_window(day: date, zone: ZoneInfo) -> DayWindow:
    """Return the window of `day` in `zone`: 23 or 25 hours long where the clocks change."""
    midnight = datetime.combine(day, time(), tzinfo=zone)
    next_midnight = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)
    return DayWindow(day, zone, midnight.astimezone(UTC), next_midnight.astimezone(UTC))


class Season(StrEnum):
    """Meteorological seasons: whole months, as the price comparisons use them."""

    WINTER = "WINTER"
    SPRING = "SPRING"
    SUMMER = "SUMMER"
    AUTUMN = "AUTUMN"


class Hemisphere(StrEnum):
    """Which half of the earth the sales are in."""

    NORTH = "north"
    SOUTH = "south"


_NORTHERN = (Season.WINTER, Season.SPRING, Season.SUMMER, Season.AUTUMN)
_SOUTHERN = (Season.SUMMER, Season.AUTUMN, Season.WINTER, Season.SPRING)
_DECEMBER = 12
_FEBRUARY = 2


def season(day: date, hemisphere: Hemisphere) -> Season:
    """Return the meteorological season: December to February is one, and so on by threes."""
    by_quarter = _NORTHERN if hemisphere is Hemisphere.NORTH else _SOUTHERN
    return by_quarter[(day.month % _DECEMBER) // 3]


def season_year(day: date) -> int:
    """Return the year in which the day's season began: January 2026 lies in the winter of 2025."""
    return day.year - 1 if day.month <= _FEBRUARY else day.year


def quarter(day: date) -> str:
    """Return the calendar quarter, `Q1` to `Q4`."""
    return f"Q{(day.month - 1) // 3 + 1}"


def days_between(first: date, last: date) -> list[date]:
    """Return every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
