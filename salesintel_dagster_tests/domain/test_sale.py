from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.columns import PRICE
from salesintel_dagster.domain.sale import (
    CONDITIONS,
    MAX_SALE_ID_BYTES,
    MAX_SHOWN_CHARACTERS,
    MAX_TEXT_BYTES,
    MAX_URL_BYTES,
    SOURCE_FIELDS,
    Rejection,
    RowRules,
    Sale,
    generated_sale_id,
    normalised_condition,
    parse_sale,
)
from salesintel_dagster_tests.fakes.source import RULES, TENANT, sale_row

DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def _sale(**changed: object) -> Sale:
    parsed = parse_sale(sale_row(NOON, **changed), RULES, WINDOW)
    assert isinstance(parsed, Sale), parsed
    return parsed


def _rejection(**changed: object) -> Rejection:
    parsed = parse_sale(sale_row(NOON) | changed, RULES, WINDOW)
    assert isinstance(parsed, Rejection), parsed
    return parsed


def test_a_good_row_becomes_a_sale():
    assert _sale() == Sale(
        sale_id="S-000001",
        product_id="P-000001",
        tenant_id=TENANT,
        category="shoes",
        brand="Acme",
        condition="very_good",
        condition_raw="Very good",
        sold_price=Decimal("19.90"),
        currency="EUR",
        currency_defaulted=False,
        sold_at=NOON,
        sold_date=DAY,
        image_url="https://images.example/1.jpg",
    )


@pytest.mark.parametrize(
    "field,value,code",
    [
        ("tenant_id", None, "TENANT_MISSING"),
        ("tenant_id", "", "TENANT_MISSING"),
        ("tenant_id", "Carousel Labs", "TENANT_INVALID"),
        ("tenant_id", "t#1", "TENANT_INVALID"),
        ("tenant_id", "t" * 300, "TENANT_INVALID"),
        ("tenant_id", 7, "TENANT_INVALID"),
        ("tenant_id", "somebody-else", "TENANT_UNKNOWN"),
        ("product_id", None, "FIELD_MISSING"),
        ("product_id", "", "FIELD_MISSING"),
        ("product_id", " \t", "FIELD_MISSING"),
        ("product_id", True, "TEXT_INVALID"),
        ("product_id", b"P-1", "TEXT_INVALID"),
        pytest.param("product_id", 10**5000, "TEXT_INVALID", id="product_id-of-5001-digits"),
        ("product_id", "\ud800", "TEXT_INVALID"),
        ("product_id", "x" * (MAX_TEXT_BYTES + 1), "TEXT_TOO_LONG"),
        ("product_id", "ž" * (MAX_TEXT_BYTES // 2 + 1), "TEXT_TOO_LONG"),
        ("sale_id", "x" * (MAX_SALE_ID_BYTES + 1), "TEXT_TOO_LONG"),
        ("category", None, "FIELD_MISSING"),
        ("image_url", "h" * (MAX_URL_BYTES + 1), "TEXT_TOO_LONG"),
        ("sold_at", None, "SOLD_AT_MISSING"),
        ("sold_at", "2026-11-03", "SOLD_AT_INVALID"),
        ("sold_at", DAY, "SOLD_AT_INVALID"),
        ("sold_at", NOON.replace(tzinfo=None), "SOLD_AT_INVALID"),
        ("sold_at", WINDOW.end, "OUTSIDE_PARTITION"),
        ("sold_at", WINDOW.start - timedelta(microseconds=1), "OUTSIDE_PARTITION"),
        ("sold_at", datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))), "OUTSIDE_PARTITION"),
        ("sold_price", None, "PRICE_MISSING"),
        ("sold_price", " ", "PRICE_MISSING"),
        ("sold_price", Decimal("-0.01"), "PRICE_NOT_POSITIVE"),
        ("sold_price", 0, "PRICE_NOT_POSITIVE"),
        ("sold_price", Decimal("NaN"), "PRICE_INVALID"),
        ("sold_price", Decimal("sNaN"), "PRICE_INVALID"),
        ("sold_price", float("nan"), "PRICE_INVALID"),
        ("sold_price", float("inf"), "PRICE_INVALID"),
        ("sold_price", "NaN", "PRICE_INVALID"),
        ("sold_price", "1_000", "PRICE_INVALID"),
        ("sold_price", "12,50", "PRICE_INVALID"),
        ("sold_price", "١٢", "PRICE_INVALID"),
        ("sold_price", True, "PRICE_INVALID"),
        ("sold_price", [1], "PRICE_INVALID"),
        ("sold_price", Decimal("1" * 39), "PRICE_TOO_LARGE"),
        ("sold_price", "1" * 39, "PRICE_TOO_LARGE"),
        pytest.param("sold_price", 10**5000, "PRICE_TOO_LARGE", id="sold_price-of-5001-digits"),
        ("sold_price", Decimal("1e999999"), "PRICE_TOO_LARGE"),
        ("sold_price", Decimal(10**16), "PRICE_TOO_LARGE"),
        ("sold_price", Decimal("19.999"), "PRICE_TOO_FINE"),
        ("sold_price", Decimal("1e-999999"), "PRICE_TOO_FINE"),
        ("sold_price", 0.1 + 0.2, "PRICE_TOO_FINE"),
        ("currency", "EURO", "CURRENCY_UNKNOWN"),
        ("currency", "XXX", "CURRENCY_UNKNOWN"),
        ("currency", 978, "CURRENCY_UNKNOWN"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(field: str, value: object, code: str):
    """A16."""
    rejection = _rejection(**{field: value})
    assert (rejection.code, rejection.field) == (code, field)
    assert len(rejection.value) <= MAX_SHOWN_CHARACTERS + 3
    assert rejection.rule


@pytest.mark.parametrize("field", ["product_id", "category", "sold_price", "sold_at", "tenant_id"])
def test_a_required_field_that_is_not_there_at_all_is_rejected(field: str):
    """A16."""
    row = sale_row(NOON)
    del row[field]
    parsed = parse_sale(row, RULES, WINDOW)
    assert isinstance(parsed, Rejection)
    assert parsed.field == field


@pytest.mark.parametrize(
    "given_price,expected",
    [
        (Decimal("0.01"), "0.01"),
        (Decimal("9999999999999999.99"), "9999999999999999.99"),
        (Decimal("12.5000000"), "12.50"),
        (Decimal("1E+2"), "100.00"),
        (12, "12.00"),
        (19.99, "19.99"),
        (1e3, "1000.00"),
        (" 12.5 ", "12.50"),
        ("+7", "7.00"),
        (".5", "0.50"),
    ],
)
def test_a_price_is_kept_to_the_cent(given_price: object, expected: str):
    assert str(_sale(sold_price=given_price).sold_price) == expected


@given(cents=st.integers(1, 10**18 - 1))
def test_every_price_of_the_column_survives_as_decimal_and_as_text(cents: int):
    price = Decimal(cents).scaleb(-2)
    assert _sale(sold_price=price).sold_price == _sale(sold_price=f"{price:f}").sold_price == price
    assert pa.scalar(price.quantize(Decimal("0.01")), PRICE).as_py() == price


def test_an_unnamed_currency_is_the_default_and_is_recorded_as_such():
    for empty in (None, "", "  "):
        sale = _sale(currency=empty)
        assert (sale.currency, sale.currency_defaulted) == ("EUR", True)
    sale = _sale(currency=" usd ")
    assert (sale.currency, sale.currency_defaulted) == ("USD", False)


@pytest.mark.parametrize(
    "raw,expected",
    [
        ("New", "new"),
        ("very good", "very_good"),
        ("LIKE-NEW", "like_new"),
        ("mint", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_condition_is_one_of_the_closed_words_and_its_raw_word_is_kept(raw: str | None, expected: str):
    sale = _sale(condition=raw)
    assert sale.condition == expected
    assert sale.condition in CONDITIONS
    assert sale.condition_raw == (raw or None)
    assert normalised_condition(raw) == expected


def test_ids_may_be_numbers_or_uuids():
    uuid = UUID("12345678-1234-5678-1234-567812345678")
    assert _sale(sale_id=uuid, product_id=42).sale_id == str(uuid)
    assert _sale(sale_id=uuid, product_id=42).product_id == "42"


def test_a_source_without_tenants_names_its_own():
    rules = RowRules(frozenset({"only-one"}), "EUR", tenant="only-one")
    parsed = parse_sale(sale_row(NOON, tenant_id="ignored"), rules, WINDOW)
    assert isinstance(parsed, Sale)
    assert parsed.tenant_id == "only-one"


def test_a_product_sold_twice_without_sale_ids_is_two_sales():
    """A19."""
    first = _sale(sale_id=None)
    again = parse_sale(sale_row(NOON + timedelta(microseconds=1), sale_id=""), RULES, WINDOW)
    assert isinstance(again, Sale)
    assert first.sale_id != again.sale_id
    assert first.sale_id == _sale(sale_id=None, sold_price=Decimal(1)).sale_id


@given(
    first=st.tuples(st.sampled_from(["a", "b-1"]), st.text(max_size=8)),
    second=st.tuples(st.sampled_from(["a", "b-1"]), st.text(max_size=8)),
    zone=st.sampled_from(["UTC", "Pacific/Auckland"]),
)
def test_a_generated_id_depends_on_the_instant_and_not_on_its_zone(
    first: tuple[str, str], second: tuple[str, str], zone: str
):
    moved = NOON.astimezone(ZoneInfo(zone))
    assert (generated_sale_id(*first, NOON) == generated_sale_id(*second, moved)) == (first == second)


def test_the_sold_date_is_the_partition_even_where_midnight_comes_twice():
    """St John's clocks went back from 00:01 to 23:01: the hour after belongs to the partition, not to its date."""
    window = day_window(date(2005, 10, 30), ZoneInfo("America/St_Johns"))
    instant = window.start + timedelta(minutes=30)
    assert instant.astimezone(window.zone).date() == date(2005, 10, 29)
    parsed = parse_sale(sale_row(instant), RULES, window)
    assert isinstance(parsed, Sale)
    assert parsed.sold_date == date(2005, 10, 30)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=40),
    st.binary(max_size=10),
    st.uuids(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([10**5000, -(10**5000), "\ud800", "\0", datetime.max.replace(tzinfo=UTC)]),
)


@given(changed=st.dictionaries(st.sampled_from(SOURCE_FIELDS), ANYTHING))
def test_whatever_a_row_holds_it_is_a_sale_that_arrow_takes_or_a_reason(changed: Mapping[str, object]):
    """A16."""
    parsed = parse_sale(sale_row(NOON) | dict(changed), RULES, WINDOW)
    if isinstance(parsed, Sale):
        assert pa.scalar(parsed.sold_price, PRICE).as_py() == parsed.sold_price > 0
        assert WINDOW.start <= parsed.sold_at < WINDOW.end
        assert parsed.tenant_id == TENANT
        assert parsed.sale_id
        assert parsed.product_id
        assert (
            pa.array([parsed.sale_id, parsed.product_id, parsed.brand, parsed.image_url], pa.string()).validate()
            is None
        )
    else:
        assert parsed.code
        assert parsed.value.encode()
