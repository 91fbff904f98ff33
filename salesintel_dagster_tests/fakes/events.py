"""Sold events as Carousel sends them: envelopes and bodies to put on a queue, and the rules that they are read by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale_event import EVENT_SOURCE, EVENT_TYPE, EventRules

TENANT = "carousel-labs"
OTHER_TENANT = "second-hand"
RULES = EventRules(
    tenants=frozenset({TENANT, OTHER_TENANT}),
    default_currency="EUR",
    zone=ZoneInfo("UTC"),
    embedding_model="amazon.titan-embed-image-v1",
)


def sold(sale_id: str | None = "S-1", **changed: object) -> dict[str, object]:
    """Return an event's detail; a value of None leaves the name out."""
    detail = {
        "saleId": sale_id,
        "productId": f"P-{sale_id}",
        "tenantId": TENANT,
        "category": "shoes",
        "brand": "Acme",
        "condition": "good",
        "salePrice": 19.9,
        "currency": "EUR",
        "soldAt": "2026-11-03T12:00:00Z",
        "listedPrice": 25,
        "daysToSell": 12,
        "vendorId": "V-1",
        "description": "Blue shoes",
    } | changed
    return {name: value for name, value in detail.items() if value is not None}


def envelope(detail: object, event_id: str | None = "7bf73129-1428-4cd3-a780-95db273d1602", **changed: object) -> str:
    """Return the body of a message that EventBridge puts on the queue."""
    event: Mapping[str, object] = {
        "version": "0",
        "id": event_id,
        "detail-type": EVENT_TYPE,
        "source": EVENT_SOURCE,
        "account": "111111111111",
        "time": "2026-11-03T12:00:05Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    } | changed
    return json.dumps({name: value for name, value in event.items() if value is not None})


def hash_of(detail: Mapping[str, object]) -> str:
    """Return the payload hash that an event of this detail has."""
    return payload_hash(json.loads(json.dumps(detail), parse_float=Decimal))


def hostile_bodies() -> dict[str, tuple[str, str]]:
    """Return F11's bodies by name, each with the code it is rejected with."""
    good = envelope(sold())
    bare = json.dumps(sold())
    return {
        "empty": ("", "NOT_JSON"),
        "no JSON": ("hello", "NOT_JSON"),
        "two texts": (bare + bare, "NOT_JSON"),
        "a list": ("[]", "NOT_AN_OBJECT"),
        "null": ("null", "NOT_AN_OBJECT"),
        "a number": ("1", "NOT_AN_OBJECT"),
        "NaN price": (bare.replace("19.9", "NaN"), "NOT_A_NUMBER"),
        "infinite price": (bare.replace("19.9", "-Infinity"), "NOT_A_NUMBER"),
        "1e999": (bare.replace("19.9", "1e999"), "NUMBER_TOO_LARGE"),
        "1e-999": (bare.replace("19.9", "1e-999"), "NUMBER_TOO_LARGE"),
        "an exponent of twenty digits": (bare.replace("19.9", "1e99999999999999999999"), "NOT_JSON"),
        "zero with such an exponent": (bare.replace("19.9", "0e99999999999999999999"), "NOT_JSON"),
        "a string that is never closed": ('"' + '\\"' * 100_000 + "[" * 33, "NOT_JSON"),
        "1e300": (bare.replace("19.9", "1e300"), "PRICE_TOO_LARGE"),
        "three decimals": (bare.replace("19.9", "19.999"), "PRICE_TOO_FINE"),
        "zero price": (bare.replace("19.9", "0"), "PRICE_NOT_POSITIVE"),
        "true price": (bare.replace("19.9", "true"), "PRICE_INVALID"),
        "no price": (envelope(sold(salePrice=None)), "PRICE_MISSING"),
        "listed price of words": (envelope(sold(listedPrice="much")), "PRICE_INVALID"),
        "nesting": ("[" * 100_000 + "]" * 100_000, "TOO_DEEP"),
        "nesting in objects": ('{"a":' * 40 + "1" + "}" * 40, "TOO_DEEP"),
        "5000 digits": (bare.replace("19.9", "9" * 5000), "NUMBER_TOO_LONG"),
        "5000 decimals": (bare.replace("19.9", "0." + "9" * 5000), "NUMBER_TOO_LONG"),
        "two tenants": (bare[:-1] + ', "tenantId": "second-hand"}', "DUPLICATE_NAME"),
        "lone surrogate": (envelope(sold(brand="\ud800")), "NOT_UNICODE"),
        "lone surrogate as a name": (envelope(sold(**{"\udfff": 1})), "NOT_UNICODE"),
        "large": (envelope(sold(description="x" * 1_000_000)), "TOO_LARGE"),
        "long description": (envelope(sold(description="x" * 40_000)), "TEXT_TOO_LONG"),
        "other event": (good.replace("carousel.product.sold", "carousel.product.listed"), "WRONG_EVENT"),
        "other source": (good.replace("carousel.products", "someone.else"), "WRONG_EVENT"),
        "detail is text": (envelope("hello"), "DETAIL_INVALID"),
        "no detail": (envelope(None), "DETAIL_INVALID"),
        "empty object": ("{}", "ID_MISSING"),
        "no id": (envelope(sold(None), event_id=None), "ID_MISSING"),
        "id is a list": (envelope(sold(saleId=[1])), "TEXT_INVALID"),
        "long id": (envelope(sold("x" * 257)), "TEXT_TOO_LONG"),
        "no tenant": (envelope(sold(tenantId=None)), "TENANT_MISSING"),
        "unknown tenant": (envelope(sold(tenantId="somebody")), "TENANT_UNKNOWN"),
        "tenant with #": (envelope(sold(tenantId="t#1")), "TENANT_INVALID"),
        "tenant with %": (envelope(sold(tenantId="t%231")), "TENANT_INVALID"),
        "long tenant": (envelope(sold(tenantId="t" * 300)), "TENANT_INVALID"),
        "no product": (envelope(sold(productId=None)), "FIELD_MISSING"),
        "no category": (envelope(sold(category="")), "FIELD_MISSING"),
        "no instant": (envelope(sold(soldAt=None)), "SOLD_AT_MISSING"),
        "instant without a zone": (envelope(sold(soldAt="2026-11-03T12:00:00")), "SOLD_AT_INVALID"),
        "instant of words": (envelope(sold(soldAt="yesterday")), "SOLD_AT_INVALID"),
        "instant is a number": (envelope(sold(soldAt=1_700_000_000)), "SOLD_AT_INVALID"),
        "year 1": (envelope(sold(soldAt="0001-01-01T00:00:00+14:00")), "SOLD_AT_INVALID"),
        "year 9999": (envelope(sold(soldAt="9999-12-31T23:59:59Z")), "SOLD_AT_INVALID"),
        "year 9998": (envelope(sold(soldAt="9998-12-31T23:59:59Z")), "SALE_REFUSED"),
        "unknown currency": (envelope(sold(currency="XXQ")), "CURRENCY_UNKNOWN"),
        "half a day to sell": (envelope(sold(daysToSell=0.5)), "NUMBER_INVALID"),
        "version 0": (envelope(sold(eventVersion=0)), "NUMBER_INVALID"),
        "1023 values": (envelope(sold(embedding=[0.5] * 1023)), "EMBEDDING_INVALID"),
        "zero vector": (envelope(sold(embedding=[0] * 1024)), "EMBEDDING_INVALID"),
        "vector of texts": (envelope(sold(embedding=["0.5"] * 1024)), "EMBEDDING_INVALID"),
        "vector beyond float32": (envelope(sold(embedding=[1e39] * 1024)), "EMBEDDING_INVALID"),
        "no vector at all": (envelope(sold(embedding="none")), "EMBEDDING_INVALID"),
    }
