"""A `carousel.product.sold` event, and the one place where a queue message becomes one or is rejected with a reason.

A message is an EventBridge envelope, or a bare detail (what a redrive by hand puts back). A sale's identity is
`detail.saleId`, else `EVT-` and the EventBridge id. Two messages say the same if their details are equal as JSON
values: then their payload hashes are equal, whatever the order of names, the white space or a number's spelling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.calendar import DayWindow, Hemisphere, day_window, season
from salesintel_dagster.domain.embedding import TITAN_DIMENSION, VectorBytes, VectorInvalid, vector_from_floats
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale import (
    Rejection,
    RowRejected,
    RowRules,
    Sale,
    optional_text,
    parse_sale,
    required_price,
    shown,
)
from salesintel_dagster.domain.sale_changes import require_storable
from salesintel_dagster.domain.sale_record import EmbeddingPointer, SaleRecord
from salesintel_dagster.domain.strict_json import JsonRefused, strict_loads

EVENT_SOURCE = "carousel.products"
EVENT_TYPE = "carousel.product.sold"
SOURCE_SYSTEM = "carousel"
"""`source_system` of every row that an event makes."""
GENERATED_ID_PREFIX = "EVT-"
MAX_EVENT_BYTES = 256 * 1024
"""What EventBridge takes in one entry, and the queue's MaximumMessageSize."""
MAX_DESCRIPTION_BYTES = 32 * 1024
MAX_KEY_BYTES = 1024
MAX_DAYS_TO_SELL = 36_500
MAX_EVENT_VERSION = 1_000_000

_NAMES = {
    "sale_id": "saleId",
    "product_id": "productId",
    "tenant_id": "tenantId",
    "category": "category",
    "brand": "brand",
    "condition": "condition",
    "sold_price": "salePrice",
    "currency": "currency",
    "sold_at": "soldAt",
    "image_url": "imageUrl",
}
"""Our fields of a sale and the event's names for them."""


class SaleIdentity(NamedTuple):
    """What a sale is known by in every store."""

    tenant_id: str
    sale_id: str


@dataclass(frozen=True, slots=True)
class EventRules:
    """What an event may hold. `zone` is that of the partition days; `embedding_model` names an unnamed vector's."""

    tenants: frozenset[str]
    default_currency: str
    zone: ZoneInfo
    embedding_model: str
    hemisphere: Hemisphere = Hemisphere.NORTH
    dimension: int = TITAN_DIMENSION
    max_bytes: int = MAX_EVENT_BYTES


@dataclass(frozen=True, slots=True)
class SaleEvent:
    """A sale as an event tells it: as the export's rules took it, and as the sales table keeps it.

    A greater `record.event_version` of the same sale is a correction of it. `sent_at` is the envelope's time, where
    there is one.
    """

    sale: Sale
    record: SaleRecord
    image_s3_key: str | None
    vector: VectorBytes | None
    embedding_model: str | None
    sent_at: datetime | None

    @property
    def identity(self) -> SaleIdentity:
        """What the sale is known by."""
        return SaleIdentity(self.sale.tenant_id, self.sale.sale_id)


def parse_event(body: str, rules: EventRules) -> SaleEvent | Rejection:
    """Return the event in a message's body, or the first rule that it breaks. Never raises for what a body holds."""
    try:
        return _event(*_opened(strict_loads(body, rules.max_bytes)), rules)
    except JsonRefused as refused:
        return Rejection(refused.code, "body", shown(body), refused.rule)
    except SaleRefused as refused:
        return Rejection("SALE_REFUSED", _NAMES.get(refused.field, refused.field), refused.value, refused.rule)
    except RowRejected as rejected:
        found = rejected.rejection
        return replace(found, field=_NAMES.get(found.field, found.field))


def _opened(value: object) -> tuple[dict[str, object], str | None, datetime | None]:
    """Return the detail, the EventBridge id and the time of sending, where there is an envelope to tell them."""
    if not isinstance(value, dict):
        raise RowRejected("NOT_AN_OBJECT", "body", value, "a message is a JSON object")
    if "detail" not in value and "detail-type" not in value:
        return value, None, None
    for name, expected in (("source", EVENT_SOURCE), ("detail-type", EVENT_TYPE)):
        if value.get(name) != expected:
            raise RowRejected(
                "WRONG_EVENT", name, value.get(name), f"the queue takes events whose {name} is {expected}"
            )
    detail = value.get("detail")
    if not isinstance(detail, dict):
        raise RowRejected("DETAIL_INVALID", "detail", detail, "an event's detail is a JSON object")
    time = value.get("time")
    return detail, optional_text(value, "id"), _instant(time) if isinstance(time, str) else None


def _event(detail: dict[str, object], event_id: str | None, sent_at: datetime | None, rules: EventRules) -> SaleEvent:
    sale = _sale(detail, event_id, rules)
    vector, model = _vector(detail, rules)
    return SaleEvent(
        sale=sale,
        record=_record(sale, detail, model, rules),
        image_s3_key=optional_text(detail, "imageS3Key", MAX_KEY_BYTES),
        vector=vector,
        embedding_model=model,
        sent_at=sent_at,
    )


def _record(sale: Sale, detail: dict[str, object], model: str | None, rules: EventRules) -> SaleRecord:
    s3_key = optional_text(detail, "embeddingS3Key", MAX_KEY_BYTES)
    record = SaleRecord(
        tenant=sale.tenant_id,
        sale_id=sale.sale_id,
        product_id=sale.product_id,
        category=sale.category,
        brand=sale.brand,
        condition=sale.condition,
        sold_price=sale.sold_price,
        currency=sale.currency,
        sold_at=sale.sold_at,
        sold_date=sale.sold_date,
        season=season(sale.sold_date, rules.hemisphere),
        embedding=EmbeddingPointer(s3_key, model or rules.embedding_model, rules.dimension) if s3_key else None,
        source_system=SOURCE_SYSTEM,
        listed_price=None if detail.get("listedPrice") is None else required_price(detail, "listedPrice"),
        days_to_sell=_whole(detail, "daysToSell", 0, MAX_DAYS_TO_SELL),
        vendor_id=optional_text(detail, "vendorId"),
        description=optional_text(detail, "description", MAX_DESCRIPTION_BYTES),
        payload_hash=payload_hash(detail),
        event_version=_whole(detail, "eventVersion", 1, MAX_EVENT_VERSION) or 1,
    )
    require_storable(record)
    return record


def _sale(detail: dict[str, object], event_id: str | None, rules: EventRules) -> Sale:
    row = {ours: detail.get(theirs) for ours, theirs in _NAMES.items()}
    sale_id = optional_text(detail, "saleId") or (event_id and GENERATED_ID_PREFIX + event_id)
    if not sale_id:
        raise RowRejected("ID_MISSING", "saleId", None, "an event has a saleId, or an envelope with an id")
    row["sale_id"] = sale_id
    row["sold_at"], window = _sold_at(detail, rules.zone)
    sale = parse_sale(row, RowRules(rules.tenants, rules.default_currency), window)
    if isinstance(sale, Rejection):
        raise RowRejected(sale)
    return sale


def _sold_at(detail: dict[str, object], zone: ZoneInfo) -> tuple[datetime, DayWindow]:
    """Return the instant and the window of its own day."""
    value = detail.get("soldAt")
    if value is None:
        raise RowRejected("SOLD_AT_MISSING", "soldAt", value, "a sale has the instant at which it was sold")
    instant = _instant(value) if isinstance(value, str) else None
    if instant is None:
        raise RowRejected("SOLD_AT_INVALID", "soldAt", value, "an instant is ISO 8601 with a time zone")
    try:
        return instant, day_window(instant.astimezone(zone).date(), zone)
    except OverflowError:
        raise RowRejected("SOLD_AT_INVALID", "soldAt", value, "an instant lies within the years 1 to 9999") from None


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if found.utcoffset() is None else found


def _whole(detail: dict[str, object], name: str, least: int, most: int) -> int | None:
    value = detail.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RowRejected("NUMBER_INVALID", name, value, f"a whole number from {least} to {most}")
    return value


def _vector(detail: dict[str, object], rules: EventRules) -> tuple[VectorBytes | None, str | None]:
    values = detail.get("embedding")
    model = optional_text(detail, "embeddingModel")
    if values is None:
        return None, model
    if isinstance(values, list) and set(map(type, values)) <= {Decimal, int}:
        values = list(map(float, values))
    try:
        return vector_from_floats(values, rules.dimension), model or rules.embedding_model
    except VectorInvalid as invalid:
        raise RowRejected("EMBEDDING_INVALID", "embedding", detail["embedding"], str(invalid)) from None
