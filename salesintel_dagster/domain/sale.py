"""A sale as we keep it, and the one place where a source row becomes one or is rejected with a reason."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING
from uuid import UUID

from salesintel_dagster.domain.currencies import ISO_4217

if TYPE_CHECKING:
    from salesintel_dagster.domain.calendar import DayWindow

SourceRow = Mapping[str, object]
"""One row as a source gives it, keyed by our field names (`SOURCE_FIELDS`)."""

SOURCE_FIELDS = tuple(
    "sale_id product_id tenant_id category brand condition sold_price currency sold_at image_url".split()
)

CONDITIONS = frozenset({"new", "like_new", "very_good", "good", "fair", "poor", "unknown"})
TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_TEXT_BYTES = 512
"""Longest product, category or brand. DynamoDB's partition key ends at 2,048 bytes; `#` and `%` triple when escaped."""
MAX_SALE_ID_BYTES = 256
"""DynamoDB's sort key ends at 1,024 bytes and holds the date, too."""
MAX_URL_BYTES = 8192
PRICE_SCALE = 2
PRICE_DIGITS = 18
PRICE_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)  # Decimal() takes 1_000, 1e3 and Arabic digits, too
_CENT = Decimal("0.01")
MAX_SHOWN_CHARACTERS = 120
"""A rejected value is shown up to here: a quarantine report must stay readable."""
_MAX_INTEGER_BITS = 1024  # Python refuses to print integers of more than 4,300 digits


@dataclass(frozen=True, slots=True)
class Sale:
    """One sale, valid by construction through `parse_sale`. (tenant_id, sale_id) is its identity."""

    sale_id: str
    product_id: str
    tenant_id: str
    category: str
    brand: str | None
    condition: str
    condition_raw: str | None
    sold_price: Decimal
    currency: str
    currency_defaulted: bool
    sold_at: datetime
    sold_date: date
    image_url: str | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row was not taken: a stable code, the field, the value as shown and the rule in words."""

    code: str
    field: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a source may send.

    `tenant` is the tenant of a source without a tenant column; otherwise rows name their own, which must be one
    of `tenants`: a day's replace covers the tenants of its source and no others.
    """

    tenants: frozenset[str]
    default_currency: str
    tenant: str | None = None


class RowRejected(Exception):
    """A row breaks a rule: the reason, on its way to whoever reads the row."""

    def __init__(self, code: str | Rejection, field: str = "", value: object = None, rule: str = "") -> None:
        super().__init__(code)
        self.rejection = code if isinstance(code, Rejection) else Rejection(code, field, shown(value), rule)


def shown(value: object) -> str:
    """Return `value` as a report shows it: bounded, printable."""
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= MAX_SHOWN_CHARACTERS else repr(value[:MAX_SHOWN_CHARACTERS]) + "…"
    if _is_long(value):
        return "an integer of hundreds of digits"
    if not isinstance(value, NoneType | int | float | Decimal | date | UUID):
        return f"a value of type {type(value).__name__}"
    text = str(value) if isinstance(value, Decimal | date | UUID) else repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"


def parse_sale(row: SourceRow, rules: RowRules, window: DayWindow) -> Sale | Rejection:
    """Return the sale in `row`, or the first rule that it breaks. Never raises for what a row holds."""
    try:
        return _parse(row, rules, window)
    except RowRejected as rejected:
        return rejected.rejection


def _parse(row: SourceRow, rules: RowRules, window: DayWindow) -> Sale:
    tenant = _tenant(row, rules)
    product = _required_text(row, "product_id")
    sold_at = _instant(row, window)
    currency, defaulted = _currency(row, rules.default_currency)
    condition_raw = optional_text(row, "condition")
    return Sale(
        sale_id=optional_text(row, "sale_id", MAX_SALE_ID_BYTES) or generated_sale_id(tenant, product, sold_at),
        product_id=product,
        tenant_id=tenant,
        category=_required_text(row, "category"),
        brand=optional_text(row, "brand"),
        condition=normalised_condition(condition_raw),
        condition_raw=condition_raw,
        sold_price=required_price(row, "sold_price"),
        currency=currency,
        currency_defaulted=defaulted,
        sold_at=sold_at,
        sold_date=window.day,
        image_url=optional_text(row, "image_url", MAX_URL_BYTES),
    )


def generated_sale_id(tenant: str, product: str, sold_at: datetime) -> str:
    """Return the id of a sale whose source has none: a hash of tenant, product and instant (microseconds, UTC)."""
    parts = "\x1f".join((tenant, product, sold_at.astimezone(UTC).isoformat(timespec="microseconds")))
    return f"gen-{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


@lru_cache(maxsize=1024)
def normalised_condition(raw: str | None) -> str:
    """Return one of `CONDITIONS`; a word that is none of them is `unknown`, and the raw word is kept beside it."""
    word = re.sub(r"[\s-]+", "_", (raw or "").strip().lower())
    return word if word in CONDITIONS else "unknown"


def _tenant(row: SourceRow, rules: RowRules) -> str:
    value = rules.tenant if rules.tenant is not None else row.get("tenant_id")
    if value is None or value == "":
        raise RowRejected("TENANT_MISSING", "tenant_id", value, "a sale names its tenant")
    if not isinstance(value, str) or not TENANT_PATTERN.fullmatch(value):
        raise RowRejected("TENANT_INVALID", "tenant_id", value, f"a tenant matches {TENANT_PATTERN.pattern}")
    if value not in rules.tenants:
        raise RowRejected("TENANT_UNKNOWN", "tenant_id", value, "the tenant is one of those configured for the source")
    return value


def optional_text(row: SourceRow, field: str, max_bytes: int = MAX_TEXT_BYTES) -> str | None:
    """Return the field as stripped text, None where it is absent or empty. Raises RowRejected."""
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int | Decimal | UUID) and not isinstance(value, bool) and not _is_long(value):
        text = str(value)
    else:
        raise RowRejected("TEXT_INVALID", field, value, "text is a string, an integer, a decimal or a UUID")
    if not (text.isascii() and len(text) <= max_bytes) and _utf8_bytes(text, field) > max_bytes:
        raise RowRejected("TEXT_TOO_LONG", field, value, f"at most {max_bytes} bytes of UTF-8")
    return text or None


def _is_long(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS


def _utf8_bytes(text: str, field: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise RowRejected("TEXT_INVALID", field, text, "text is valid Unicode") from None


def _required_text(row: SourceRow, field: str) -> str:
    text = optional_text(row, field)
    if text is None:
        raise RowRejected("FIELD_MISSING", field, row.get(field), "the field is required and not empty")
    return text


def required_price(row: SourceRow, field: str) -> Decimal:
    """Return the field as a price with two decimals. Raises RowRejected."""
    value = row.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowRejected("PRICE_MISSING", field, value, "a sale has a price")
    price = value if isinstance(value, Decimal) else _decimal(value, field)
    if not price.is_finite():
        raise RowRejected("PRICE_INVALID", field, value, "a price is a finite number")
    if price <= 0:
        raise RowRejected("PRICE_NOT_POSITIVE", field, value, "a sale's price is above zero")
    if price.adjusted() >= PRICE_DIGITS - PRICE_SCALE:
        raise RowRejected("PRICE_TOO_LARGE", field, value, "a price fits decimal(18,2)")
    cents = price.quantize(_CENT)
    if cents != price:
        raise RowRejected("PRICE_TOO_FINE", field, value, "a price has at most two decimals")
    return cents


def _decimal(value: object, field: str) -> Decimal:
    if isinstance(value, str) and PRICE_TEXT.fullmatch(value.strip()):
        return Decimal(value.strip())
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise RowRejected("PRICE_INVALID", field, value, "a price is a decimal number")


def _currency(row: SourceRow, default: str) -> tuple[str, bool]:
    value = row.get("currency")
    if value is None or (isinstance(value, str) and not value.strip()):
        return default, True
    code = value.strip().upper() if isinstance(value, str) else ""
    if code not in ISO_4217:
        raise RowRejected("CURRENCY_UNKNOWN", "currency", value, "a currency is an ISO 4217 code")
    return code, False


def _instant(row: SourceRow, window: DayWindow) -> datetime:
    value = row.get("sold_at")
    if value is None:
        raise RowRejected("SOLD_AT_MISSING", "sold_at", value, "a sale has the instant at which it was sold")
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise RowRejected("SOLD_AT_INVALID", "sold_at", value, "an instant is a timestamp with a time zone")
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        raise RowRejected("OUTSIDE_PARTITION", "sold_at", value, "an instant lies within the years 1 to 9999") from None
    if not window.start <= instant < window.end:
        raise RowRejected("OUTSIDE_PARTITION", "sold_at", value, "a partition takes the sales of its own day only")
    return instant
