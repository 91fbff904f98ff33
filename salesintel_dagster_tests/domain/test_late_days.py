from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.late_days import (
    MISSING_DAYS,
    WAITS,
    DayCompared,
    Tries,
    look_back_days,
    missing_days,
    newest_due_day,
    plan,
    told,
)

NOW = datetime(2026, 11, 21, 3, 20, tzinfo=UTC)
DAY = date(2026, 11, 20)
MONTH = days_between(DAY - timedelta(days=MISSING_DAYS - 1), DAY)
FINGERPRINT = SourceFingerprint(3, "0" * 31 + "a")


@pytest.mark.parametrize(
    "now, zone, newest",
    [
        ("2026-11-21T03:10:00+00:00", "UTC", "2026-11-20"),
        ("2026-11-21T03:09:59+00:00", "UTC", "2026-11-19"),
        ("2026-11-21T00:10:00+00:00", "UTC", "2026-11-19"),
        ("2026-11-21T16:10:00+13:00", "Pacific/Auckland", "2026-11-20"),
        ("2026-11-21T16:09:00+13:00", "Pacific/Auckland", "2026-11-19"),
        ("2026-11-21T03:10:00+00:00", "America/Los_Angeles", "2026-11-19"),
    ],
)
def test_a_day_is_due_ten_minutes_after_the_nightly_tick_that_asks_for_it(now: str, zone: str, newest: str):
    found = newest_due_day(datetime.fromisoformat(now), ZoneInfo(zone), 3)
    assert found == date.fromisoformat(newest)


def test_nine_days_of_downtime_are_nine_missing_days():
    """J2"""
    assert missing_days(DAY, MONTH[:-9], MONTH[0]) == MONTH[-9:]


def test_nothing_is_missing_before_the_first_night_of_the_schedule():
    assert missing_days(DAY, [], None) == []
    assert missing_days(DAY, [DAY - timedelta(days=400), DAY - timedelta(days=3)], None) == []
    assert missing_days(DAY, [], DAY + timedelta(days=1)) == []


def test_days_before_the_first_night_and_before_the_last_thirty_are_a_persons():
    assert missing_days(DAY, [DAY - timedelta(days=400)], DAY - timedelta(days=1)) == [DAY - timedelta(days=1), DAY]
    assert missing_days(DAY, [DAY - timedelta(days=400)], DAY - timedelta(days=400)) == MONTH


def test_the_look_back_is_the_three_exported_days_before_the_newest():
    """A4"""
    assert look_back_days(DAY, MONTH) == MONTH[-4:-1]
    assert look_back_days(DAY, [DAY - timedelta(days=2)]) == [DAY - timedelta(days=2)]


def test_days_without_a_gap_share_a_run_up_to_the_bound():
    planned = plan([*MONTH[:5], *MONTH[7:8]], (), {}, NOW, 3)
    assert [group.days for group in planned.groups] == [tuple(MONTH[:3]), tuple(MONTH[3:5]), (MONTH[7],)]


def test_a_busy_day_is_never_asked_for_and_splits_its_neighbours():
    planned = plan(MONTH[:3], {MONTH[1]}, {}, NOW, 30)
    assert [group.days for group in planned.groups] == [(MONTH[0],), (MONTH[2],)]
    assert planned.busy == (MONTH[1],)


@pytest.mark.parametrize("count", range(1, len(WAITS)))
def test_a_failed_day_waits_longer_after_each_try_and_then_has_a_key_of_its_own(count: int):
    early = plan([DAY], (), {DAY: Tries(count, NOW - WAITS[count] + timedelta(seconds=1))}, NOW, 30)
    assert (early.groups, early.waiting) == ((), (DAY,))
    [again] = plan([DAY], (), {DAY: Tries(count, NOW - WAITS[count])}, NOW, 30).groups
    [first] = plan([DAY], (), {}, NOW, 30).groups
    assert first.key("missing") == "missing-2026-11-20-2026-11-20-0"
    assert again.key("missing") == f"missing-2026-11-20-2026-11-20-{count}"


def test_a_day_that_failed_five_times_is_left_to_a_person_and_named():
    planned = plan([DAY], (), {DAY: Tries(len(WAITS), NOW - timedelta(days=9))}, NOW, 30)
    assert (planned.groups, planned.given_up) == ((), (DAY,))
    assert planned.sentence("Missing") == "Missing: 2026-11-20: 5 tries failed, materialise by hand."


@given(
    wanted=st.sets(st.sampled_from(MONTH)),
    busy=st.sets(st.sampled_from(MONTH)),
    tried=st.dictionaries(st.sampled_from(MONTH), st.tuples(st.integers(1, 6), st.integers(0, 20))),
    most=st.integers(1, 40),
)
def test_every_wanted_day_is_asked_for_once_or_left_for_one_reason(
    wanted: set[date], busy: set[date], tried: dict[date, tuple[int, int]], most: int
):
    tries = {day: Tries(count, NOW - timedelta(hours=hours)) for day, (count, hours) in tried.items()}
    planned = plan(wanted, busy, tries, NOW, most)
    assert sorted((*planned.days, *planned.busy, *planned.waiting, *planned.given_up)) == sorted(wanted)
    assert not busy & set(planned.days)
    for group in planned.groups:
        assert len(group.days) <= most
        assert list(group.days) == days_between(group.days[0], group.days[-1])
    assert len({group.key("missing") for group in planned.groups}) == len(planned.groups)


def test_what_is_not_known_counts_as_different():
    assert not DayCompared(DAY, FINGERPRINT, FINGERPRINT).differs
    assert DayCompared(DAY, FINGERPRINT, None).differs
    assert DayCompared(DAY, FINGERPRINT, SourceFingerprint(3, "0" * 32)).differs
    assert DayCompared(DAY, FINGERPRINT, SourceFingerprint(4, FINGERPRINT.checksum)).differs


def test_a_fingerprint_survives_its_text_and_nothing_else_is_one():
    assert SourceFingerprint.parse(FINGERPRINT.text) == FINGERPRINT
    for text in (
        None,
        "",
        "3",
        "3:abc",
        "-1:" + "0" * 32,
        "3:" + "g" * 32,
        FINGERPRINT.text + "\n",
        "\u0661:" + "0" * 32,
    ):
        assert SourceFingerprint.parse(text) is None


def test_many_days_are_told_by_the_first_three():
    assert told(MONTH[:3]) == "2026-10-22, 2026-10-23, 2026-10-24"
    assert told(MONTH).endswith("2026-10-24 and 27 more")
