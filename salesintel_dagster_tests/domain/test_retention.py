from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.retention import expires_on, is_expired, outlives_dynamodb, ttl_of
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.sales_keys import sale_key_pair
from salesintel_dagster_tests.fakes.sale_records import record


@pytest.mark.parametrize(
    "sold,ends,seconds",
    [
        (date(2025, 12, 29), date(2027, 12, 29), 1830038400),
        (date(2024, 2, 29), date(2026, 3, 1), 1772323200),
        (date(2026, 2, 28), date(2028, 2, 28), 1835308800),
        (date(2024, 2, 28), date(2026, 2, 28), 1772236800),
        (date(1, 1, 1), date(3, 1, 1), -62072524800),
        (date(9997, 12, 31), date(9999, 12, 31), 253402214400),
    ],
)
def test_e8_a_sale_expires_two_calendar_years_after_its_day(sold: date, ends: date, seconds: int):
    assert expires_on(sold) == ends
    assert ttl_of(sold) == seconds
    assert type(ttl_of(sold)) is int


def test_e8_beyond_the_calendar_there_is_no_expiry():
    with pytest.raises(ValueError):
        ttl_of(date(9998, 1, 1))


@given(st.dates(max_value=date(9997, 12, 30)))
def test_e8_it_is_midnight_in_utc_and_later_days_never_expire_earlier(sold: date):
    assert ttl_of(sold) % 86_400 == 0
    assert ttl_of(sold) <= ttl_of(sold + timedelta(days=1))


@pytest.mark.parametrize("skew", [-1, 0, 1])
def test_e9_keys_and_ttl_come_from_the_sale_and_not_from_the_clock(skew: int):
    with time_machine.travel(datetime(2026, 11, 20, tzinfo=UTC) + timedelta(days=skew), tick=False):
        sale = record(sold_date=date(2025, 12, 29))
        assert sale_key_pair("acme", sale.key).sort == "SALE#2025-12-29#S-1"
        assert stored(sale, 1).ttl == 1830038400


def test_e7_the_second_itself_is_past():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    at = int(now.timestamp())
    assert [is_expired(ttl, now) for ttl in (None, at - 1, at, at + 1)] == [False, True, True, False]


def test_g12_a_ttl_of_more_than_five_years_ago_is_one_that_dynamodb_leaves_alone():
    now = datetime(2026, 11, 20, tzinfo=UTC)
    assert outlives_dynamodb(ttl_of(date(2019, 11, 19)), now)
    assert not outlives_dynamodb(ttl_of(date(2019, 11, 30)), now)
