from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity, parse_event
from salesintel_dagster.domain.sales_keys import guard_key_pair
from salesintel_dagster.domain.strict_json import JsonRefused, strict_loads
from salesintel_dagster_tests.fakes.events import RULES, TENANT, envelope, hostile_bodies, sold

HOSTILE = hostile_bodies()


def event(body: str) -> SaleEvent:
    found = parse_event(body, RULES)
    assert isinstance(found, SaleEvent), found
    return found


def code(body: str) -> str:
    found = parse_event(body, RULES)
    assert isinstance(found, Rejection)
    return found.code


def test_an_event_becomes_the_sale_that_both_stores_keep():
    found = event(envelope(sold()))
    assert found.identity == SaleIdentity(TENANT, "S-1")
    assert found.sent_at == datetime(2026, 11, 3, 12, 0, 5, tzinfo=UTC)
    record = found.record
    assert (record.sold_price, record.listed_price) == (Decimal("19.90"), Decimal("25.00"))
    assert (record.sold_date, record.season, record.event_version) == (date(2026, 11, 3), Season.AUTUMN, 1)
    assert (record.days_to_sell, record.vendor_id, record.description) == (12, "V-1", "Blue shoes")
    assert (found.sale.condition, found.sale.category) == (record.condition, record.category) == ("good", "shoes")


def test_a_bare_detail_is_an_event_too():
    """DESIGN 5: what a redrive by hand puts back"""
    bare, wrapped = event(json.dumps(sold())), event(envelope(sold()))
    assert bare.record == wrapped.record
    assert bare.sent_at is None


def test_a_sale_without_an_id_is_known_by_its_event():
    """F8"""
    found = event(envelope(sold(None), event_id="abc-1"))
    assert found.identity.sale_id == "EVT-abc-1"
    assert event(envelope(sold(""), event_id="abc-1")).identity.sale_id == "EVT-abc-1"


def test_the_day_is_that_of_the_configured_zone():
    rules = RULES.__class__(RULES.tenants, "EUR", ZoneInfo("Pacific/Auckland"), "m")
    found = parse_event(envelope(sold(soldAt="2026-11-03T12:00:00Z")), rules)
    assert isinstance(found, SaleEvent)
    assert found.record.sold_date == found.sale.sold_date == date(2026, 11, 4)


def test_a_vector_is_float32_and_has_a_model():
    values = [0.25, -1, *[1e-3] * 1022]
    found = event(envelope(sold(embedding=values)))
    assert found.vector is not None
    assert np.frombuffer(found.vector, "<f4").tolist() == np.array(values, "f4").tolist()
    assert found.embedding_model == "amazon.titan-embed-image-v1"
    assert event(envelope(sold(embedding=values, embeddingModel="other"))).embedding_model == "other"


def test_the_same_content_has_the_same_hash_however_it_is_written():
    """F10"""
    detail = sold(embedding=[0.5] * 1024)
    backwards = dict(reversed(detail.items()))
    spelt = (
        json.dumps(backwards, indent=3).replace("19.9", "1.990e1").replace("25", "25.0").replace("Blue", "\\u0042lue")
    )
    assert event(spelt).record.payload_hash == event(envelope(detail)).record.payload_hash


@pytest.mark.parametrize("changed", [{"salePrice": 19.91}, {"salePrice": "19.9"}, {"extra": 1}, {"eventVersion": 2}])
def test_other_content_has_another_hash(changed: dict[str, object]):
    assert event(envelope(sold(**changed))).record.payload_hash != event(envelope(sold())).record.payload_hash


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_rejected_with_its_rule(name: str):
    """F9, F11, F24, F25, D9"""
    body, expected = HOSTILE[name]
    found = parse_event(body, RULES)
    assert isinstance(found, Rejection)
    assert found.code == expected
    assert found.rule
    assert len(found.value) < 200


def test_a_rejection_speaks_of_the_events_own_field():
    found = parse_event(envelope(sold(salePrice=-1)), RULES)
    assert found == Rejection("PRICE_NOT_POSITIVE", "salePrice", "-1", "a sale's price is above zero")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_no_json_makes_the_parser_raise(value: object):
    """F11"""
    for body in (json.dumps(value), envelope(value), envelope(sold(brand=value)), envelope(sold(salePrice=value))):
        assert isinstance(parse_event(body, RULES), SaleEvent | Rejection)


@given(st.text())
def test_no_text_makes_the_parser_raise(text: str):
    """F11"""
    assert isinstance(parse_event(text, RULES), SaleEvent | Rejection)
    assert isinstance(parse_event(envelope(sold(text)), RULES), SaleEvent | Rejection)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_rejected_text_is_never_half_read(value: dict[str, object]):
    text = json.dumps(value)
    try:
        read = strict_loads(text, 100_000)
    except JsonRefused:
        return
    assert read == json.loads(text, parse_float=Decimal)


@given(st.lists(st.sampled_from(["t", "#", "%", "%23", "%25", "1", "/", ".."]), min_size=1, max_size=6))
def test_tenants_that_look_alike_are_never_one(parts: list[str]):
    """F25: t, t#1 and t%231 are three; in an event only one that needs no escape gets in"""
    tenant = "".join(parts)
    keys = {guard_key_pair(name, "S-1").partition for name in (tenant, tenant + "#1", tenant + "%231")}
    assert len(keys) == 3
    if set(tenant) & set("#%/."):
        assert code(envelope(sold(tenantId=tenant))) == "TENANT_INVALID"
