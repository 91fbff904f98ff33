"""A sale as a client sends it in JSON: parsed strictly, once, into a record; or refused with the field and its rule.

The tenant is never in it: it is the caller's. Day and season follow from `soldAt` in the deployment's zone.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from salesintel_dagster.domain.calendar import Hemisphere, season
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.retention import expires_on, is_expired, ttl_of
from salesintel_dagster.domain.sale import PRICE_TEXT, generated_sale_id, normalised_condition, shown
from salesintel_dagster.domain.sale_record import EmbeddingPointer, SaleRecord
from salesintel_dagster.domain.tenancy import CallerContext

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

SOURCE_SYSTEM = "carousel"
MAX_BODY_BYTES = 400_000
"""A sale that is larger fits no item."""
REQUIRED = frozenset({"productId", "soldPrice", "currency", "soldAt"})
EMBEDDING = ("embeddingS3Key", "embeddingModel", "embeddingDimension")
FIELDS = REQUIRED | {
    "saleId",
    "category",
    "brand",
    "condition",
    "listedPrice",
    "daysToSell",
    "vendorId",
    "description",
    "eventVersion",
    *EMBEDDING,
}


_WIRE_NAMES = {
    "sale_id": "saleId",
    "product_id": "productId",
    "sold_price": "soldPrice",
    "listed_price": "listedPrice",
    "sold_at": "soldAt",
    "sold_date": "soldAt",
    "days_to_sell": "daysToSell",
    "vendor_id": "vendorId",
    "event_version": "eventVersion",
    "embedding_s3_key": "embeddingS3Key",
    "embedding_model": "embeddingModel",
    "embedding_dimension": "embeddingDimension",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What turns an instant into a day and a season."""

    zone: ZoneInfo
    hemisphere: Hemisphere


def read_json(text: str | bytes, most_bytes: int = MAX_BODY_BYTES) -> Any:  # noqa: ANN401 - any JSON
    """Return strict JSON, fractions as Decimals. Raises SaleRefused: a key that is there twice and NaN are not JSON."""
    if len(text) > most_bytes:
        raise SaleRefused("body", f"{len(text)} bytes", f"at most {most_bytes} bytes")
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise SaleRefused("body", "nested too deeply", "a sale is one JSON object") from None
    except (ValueError, InvalidOperation) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError | _Refused) else type(error).__name__
        told = text if isinstance(text, str) else text.decode("utf-8", "replace")
        raise SaleRefused("body", shown(told), f"strict JSON ({why})") from None


def parse_request(given: object, context: CallerContext, rules: RequestRules) -> SaleRecord:
    """Return the record of the caller's sale. Raises SaleRefused with the first rule that is broken."""
    if not isinstance(given, Mapping):
        raise SaleRefused("body", shown(given), "a sale is one JSON object")
    _known_fields(given)
    try:
        return _record(given, context, rules)
    except SaleRefused as error:
        raise SaleRefused(wire_name(error.field), error.value, error.rule) from None


def require_kept(record: SaleRecord, now: datetime) -> SaleRecord:
    """Return the record. Raises SaleRefused for a sale that has expired already: it would be stored and never seen."""
    if is_expired(ttl_of(record.sold_date), now):
        rule = f"a sale is kept for two years; this one's ended on {expires_on(record.sold_date)}"
        raise SaleRefused("soldAt", str(record.sold_date), rule)
    return record


def wire_name(field: str) -> str:
    """Return a record's field by the name under which a client knows it."""
    return _WIRE_NAMES.get(field, field)


def _record(given: Mapping[str, Any], context: CallerContext, rules: RequestRules) -> SaleRecord:
    sold_at, day = _instant(given["soldAt"], rules.zone)
    product = _text(given, "productId") or ""
    sale_id = _text(given, "saleId")
    return SaleRecord(
        tenant=context.tenant,
        sale_id=sale_id if sale_id is not None else generated_sale_id(context.tenant, product, sold_at),
        product_id=product,
        category=_text(given, "category"),
        brand=_text(given, "brand"),
        condition=normalised_condition(_text(given, "condition")),
        sold_price=_price(given["soldPrice"], "soldPrice"),
        currency=_text(given, "currency") or "",
        sold_at=sold_at,
        sold_date=day,
        season=season(day, rules.hemisphere),
        embedding=_embedding(given),
        source_system=SOURCE_SYSTEM,
        listed_price=_price(given["listedPrice"], "listedPrice") if given.get("listedPrice") is not None else None,
        days_to_sell=given.get("daysToSell"),
        vendor_id=_text(given, "vendorId"),
        description=_text(given, "description"),
        payload_hash=_hash(given),
        event_version=given.get("eventVersion", 1),
    )


def _known_fields(given: Mapping[str, object]) -> None:
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            own = "the tenant is the caller's own and never in the body" if name.lower().startswith("tenant") else ""
            hint = own or (f"a field that exists; did you mean {near[0]}?" if near else "a field that exists")
            raise SaleRefused(shown(name), shown(given[name]), hint)
    for name in sorted(REQUIRED):
        if given.get(name) is None:
            raise SaleRefused(name, shown(given.get(name)), "the field is required")


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise SaleRefused(name, shown(value), "a text")
    if value is not None and _SURROGATE.search(value):
        raise SaleRefused(name, shown(value), "text is valid Unicode")
    return value


def _price(value: object, name: str) -> Decimal:
    if isinstance(value, str) and PRICE_TEXT.fullmatch(value):
        return Decimal(value)
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    raise SaleRefused(name, shown(value), 'a decimal number such as "35.50"')


def _instant(value: object, zone: ZoneInfo) -> tuple[datetime, date]:
    """Return the instant and its day in the deployment's zone."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        if instant is not None and instant.utcoffset() is not None:
            return instant.astimezone(UTC), instant.astimezone(zone).date()
    except (ValueError, OverflowError):
        pass
    raise SaleRefused("soldAt", shown(value), "an instant with its zone such as 2026-11-20T10:15:00Z")


def _embedding(given: Mapping[str, Any]) -> EmbeddingPointer | None:
    present = [name for name in EMBEDDING if given.get(name) is not None]
    if not present:
        return None
    for name in EMBEDDING:
        if name not in present:
            raise SaleRefused(name, "None", f"an embedding has all of {', '.join(EMBEDDING)}")
    return EmbeddingPointer(*(given[name] for name in EMBEDDING))


def _hash(given: Mapping[str, object]) -> str:
    try:
        return payload_hash(given)
    except TypeError as error:
        raise SaleRefused("body", "a sale", str(error)) from None


class _Refused(ValueError):
    pass


def _no_number(word: str) -> None:
    raise _Refused(f"{word} is no number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {shown(twice)} is there twice")
    return found
