from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.local_time import instant_of, offsets

ZONES = ("UTC", "Europe/Vilnius", "America/New_York", "Pacific/Auckland", "Australia/Lord_Howe", "Asia/Kathmandu")


@pytest.mark.parametrize(
    "zone,local,instant",
    [
        ("Europe/Vilnius", "2026-07-01 12:00", "2026-07-01 09:00"),
        ("Europe/Vilnius", "2026-10-25 02:59", "2026-10-24 23:59"),
        ("Europe/Vilnius", "2026-10-25 03:00", "2026-10-25 01:00"),  # occurs twice: the second one
        ("Europe/Vilnius", "2026-10-25 04:00", "2026-10-25 02:00"),
        ("Europe/Vilnius", "2026-03-29 03:30", "2026-03-29 01:30"),  # does not occur: as if not changed yet
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:45"),
    ],
)
def test_local_time_is_read_as_standard_time_where_two_readings_are_possible(zone: str, local: str, instant: str):
    found = instant_of(datetime.fromisoformat(local), ZoneInfo(zone))
    assert found == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@given(
    zone=st.sampled_from(ZONES),
    first=st.datetimes(datetime(1975, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001 - local times
    minutes=st.integers(0, 3 * 24 * 60 - 1),
)
def test_the_offsets_of_a_stretch_give_the_instant_of_every_minute_in_it(zone: str, first: datetime, minutes: int):
    first = first.replace(second=0, microsecond=0)
    pieces = offsets(ZoneInfo(zone), first, first + timedelta(days=3))
    local = first + timedelta(minutes=minutes)
    seconds = next(seconds for until, seconds in pieces if local < until)
    assert local - timedelta(seconds=seconds) == instant_of(local, ZoneInfo(zone)).replace(tzinfo=None)


def test_a_stretch_without_a_change_has_one_offset():
    first = datetime(2026, 7, 1)  # noqa: DTZ001 - local time
    assert offsets(ZoneInfo("Asia/Kathmandu"), first, first + timedelta(days=3)) == [
        (first + timedelta(days=3), 5 * 3600 + 45 * 60)
    ]
