"""A sale as the sales table in DynamoDB keeps it: valid by construction, so that whatever is stored can be trusted.

The daily export's `Sale` is a source row that was taken; a `SaleRecord` is what the event sync and the store-sale
handler write and what look-ups give back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.currencies import ISO_4217
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.sale import (
    CONDITIONS,
    MAX_SHOWN_CHARACTERS,
    PRICE_DIGITS,
    PRICE_SCALE,
    TENANT_PATTERN,
    shown,
)
from salesintel_dagster.domain.sales_keys import SaleKey

MAX_RECORD_BYTES = 380_000
"""All texts of a record together, as UTF-8. DynamoDB's item ends at 409,600 bytes; keys, names and numbers of ours
take up to 15,000 of them."""
MAX_EVENT_VERSION = 10**18
MAX_DIMENSION = 65_536
_CENT = Decimal("0.01")
_HASH = re.compile(r"[0-9a-f]{64}")
_ZONES_APART = timedelta(days=1)
"""A sale's day is that of the business zone: up to a day from the UTC day of its instant."""


@dataclass(frozen=True, slots=True)
class EmbeddingPointer:
    """Where the product's vector lies and what made it; the vector itself is never in an item (12 KB as a list)."""

    s3_key: str
    model: str
    dimension: int

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        for name in ("s3_key", "model"):
            _text(f"embedding_{name}", getattr(self, name))
        _whole("embedding_dimension", self.dimension, 1, MAX_DIMENSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRecord:
    """One sale. (tenant, sale_id) is its identity, `payload_hash` what tells a repetition from a contradiction.

    Prices are decimal(18,2) above zero in `currency`; `sold_at` is aware; an empty category or brand is none.
    `event_version` counts the source's corrections of one sale, from 1. Raises SaleRefused naming the first field that
    breaks its rule: a float is no price, nor is NaN or a number of 39 digits.
    """

    tenant: str
    sale_id: str
    product_id: str
    category: str | None = None
    brand: str | None = None
    condition: str = "unknown"
    sold_price: Decimal
    currency: str
    sold_at: datetime
    sold_date: date
    season: Season
    embedding: EmbeddingPointer | None = None
    source_system: str
    listed_price: Decimal | None = None
    days_to_sell: int | None = None
    vendor_id: str | None = None
    description: str | None = None
    payload_hash: str
    event_version: int = 1

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        if not isinstance(self.tenant, str) or not TENANT_PATTERN.fullmatch(self.tenant):
            raise SaleRefused("tenant", shown(self.tenant), f"a tenant matches {TENANT_PATTERN.pattern}")
        for name in ("sale_id", "product_id", "source_system"):
            _text(name, getattr(self, name))
        for name in ("category", "brand", "vendor_id", "description"):
            _optional_text(self, name)
        if not isinstance(self.condition, str) or self.condition not in CONDITIONS:
            raise SaleRefused("condition", shown(self.condition), f"one of {', '.join(sorted(CONDITIONS))}")
        object.__setattr__(self, "sold_price", _price("sold_price", self.sold_price))
        if self.listed_price is not None:
            object.__setattr__(self, "listed_price", _price("listed_price", self.listed_price))
        if not isinstance(self.currency, str) or self.currency not in ISO_4217:
            raise SaleRefused("currency", shown(self.currency), "a currency is an ISO 4217 code")
        object.__setattr__(self, "sold_at", _instant(self.sold_at))
        _sold_date(self.sold_date, self.sold_at)
        object.__setattr__(self, "season", _season(self.season))
        if self.days_to_sell is not None:
            _whole("days_to_sell", self.days_to_sell, 0, 100_000)
        if not isinstance(self.payload_hash, str) or not _HASH.fullmatch(self.payload_hash):
            raise SaleRefused("payload_hash", shown(self.payload_hash), "64 hexadecimal digits, in lower case")
        _whole("event_version", self.event_version, 1, MAX_EVENT_VERSION)

    @property
    def key(self) -> SaleKey:
        """Where the sale lies in its tenant."""
        return SaleKey(self.sold_date, self.product_id, self.sale_id)

    @property
    def text_bytes(self) -> int:
        """All texts together, as UTF-8: what must stay within `MAX_RECORD_BYTES`."""
        texts = [getattr(self, field.name) for field in fields(self)]
        if self.embedding is not None:
            texts += [self.embedding.s3_key, self.embedding.model]
        return sum(len(text.encode()) for text in texts if isinstance(text, str))


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise SaleRefused(name, shown(value), "a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SaleRefused(name, shown(value), "text is valid Unicode") from None


def _optional_text(record: SaleRecord, name: str) -> None:
    value = getattr(record, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        object.__setattr__(record, name, None)
        return
    _text(name, value)


def _price(name: str, value: object) -> Decimal:
    if not isinstance(value, Decimal):
        raise SaleRefused(name, shown(value), f"money is a Decimal, not {type(value).__name__}")
    told = str(value)[:MAX_SHOWN_CHARACTERS]
    if not value.is_finite():
        raise SaleRefused(name, told, "a price is a finite number")
    if value <= 0:
        raise SaleRefused(name, told, "a price is above zero")
    if value.adjusted() >= PRICE_DIGITS - PRICE_SCALE:
        raise SaleRefused(name, told, "a price fits decimal(18,2)")
    exponent = value.normalize().as_tuple().exponent if len(value.as_tuple().digits) <= PRICE_DIGITS else None
    if not isinstance(exponent, int) or exponent < -PRICE_SCALE:
        raise SaleRefused(name, told, "a price has at most two decimals and 18 digits")
    return value.quantize(_CENT)


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SaleRefused(name, shown(value), f"a whole number from {least} to {most}")


def _instant(value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise SaleRefused("sold_at", shown(value), "an instant is a timestamp with a time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise SaleRefused("sold_at", shown(value), "an instant lies within the years 1 to 9999") from None


def _sold_date(value: object, sold_at: datetime) -> None:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise SaleRefused("sold_date", shown(value), "a day of the calendar")
    if abs(value - sold_at.date()) > _ZONES_APART:
        raise SaleRefused("sold_date", shown(value), f"the day of sold_at ({sold_at.date()}) in some time zone")
    if value.year > date.max.year - 2:
        raise SaleRefused("sold_date", shown(value), "a day whose expiry, two years later, is in the calendar")


def _season(value: object) -> Season:
    try:
        return Season(str(value))
    except ValueError:
        raise SaleRefused("season", shown(value), f"one of {', '.join(Season)}") from None
