"""One line of a sales file as a row of the source table: what is wrong stays wrong, what no column holds is refused."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from salesintel_dagster.local.own_photos import Photos
from salesintel_dagster.local.source_table import SourceLine

FASHION_COLUMNS = ("category", "invoice_no", "stock_code", "quantity", "invoice_date", "unit_price_gbp")
FASHION_ZONE = ZoneInfo("Europe/London")
"""The wholesaler's: its invoice dates name no zone."""
CANCELLED = "C"
"""An invoice number that begins so is a cancellation; its quantity is negative."""
OWN_REQUIRED = ("product_id", "category", "sold_price", "sold_at")
OWN_COLUMNS = ("sale_id", *OWN_REQUIRED, "brand", "condition", "currency", "image", "image_url", "recorded_at")
MAX_PRICE_EXPONENT = 1000
"""Postgres' numeric ends at 131,072 digits; whatever is past this is a typing error or an attack."""


class LineRefused(Exception):
    """No row can be made of the line; the text is the rule."""


def fashion_line(values: Mapping[str, str], photos: Photos, occurrences: Counter[str]) -> SourceLine:
    """Return an invoice line: one sale at its unit price, negative where it was cancelled. Raises LineRefused.

    A line has no id of its own: it is the n-th of its invoice and stock code, which stays true when lines are added.
    """
    article = f"{values['invoice_no']}-{values['stock_code']}"
    occurrences[article] += 1
    sale_id = f"{article}-{occurrences[article]}"
    sold_at = instant("invoice_date", values["invoice_date"], FASHION_ZONE)
    price = decimal("unit_price_gbp", values["unit_price_gbp"])
    cancelled = values["invoice_no"].startswith(CANCELLED) or values["quantity"].startswith("-")
    return SourceLine(
        load_key=f"fashion/{sale_id}",
        sale_id=sale_id,
        product_id=values["stock_code"] or None,
        category=values["category"] or None,
        brand=None,
        condition="new",
        sold_price=-price if price is not None and cancelled else price,
        currency="GBP",
        sold_at=sold_at,
        image_url=photos.chosen_url(values["category"], values["stock_code"]),
        recorded_at=sold_at,
    )


def own_line(values: Mapping[str, str], photos: Photos, occurrences: Counter[str]) -> SourceLine:
    """Return a line under our own field names. Raises LineRefused.

    It is known again by its sale id, or by its content where it has none, and by which of such lines it is.
    """
    identity = values.get("sale_id") or hashlib.sha256("\x1f".join(values.values()).encode()).hexdigest()
    occurrences[identity] += 1
    sold_at = instant("sold_at", values["sold_at"], UTC)
    recorded_at = instant("recorded_at", values.get("recorded_at", ""), UTC) or sold_at
    return SourceLine(
        load_key=f"own/{occurrences[identity]}/{identity}",
        # Two equal lines are two sales: without an id of their own each gets one that counts them.
        sale_id=values.get("sale_id") or f"own-{identity[:24]}-{occurrences[identity]}",
        product_id=values["product_id"] or None,
        category=values["category"] or None,
        brand=values.get("brand") or None,
        condition=values.get("condition") or None,
        sold_price=decimal("sold_price", values["sold_price"]),
        currency=values.get("currency") or None,
        sold_at=sold_at,
        image_url=_image_url(values, photos),
        recorded_at=recorded_at,
    )


def _image_url(values: Mapping[str, str], photos: Photos) -> str | None:
    """Return the line's own image; only a file without any image column gets photos chosen for it."""
    if "image_url" in values or "image" in values:
        name = values.get("image")
        return values.get("image_url") or (photos.url(name) if name else None)
    return photos.chosen_url(values["category"], values["product_id"])


def decimal(column: str, text: str) -> Decimal | None:
    """Return a number as it is, NaN and infinity included, or None for nothing. Raises LineRefused."""
    if not text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise LineRefused(f"{column} {shown(text)}: a price is a number such as 12.50") from None
    if number.is_snan() or (number.is_finite() and abs(number.adjusted()) > MAX_PRICE_EXPONENT):
        raise LineRefused(f"{column} {shown(text)}: a price has at most {MAX_PRICE_EXPONENT} digits")
    return number


def instant(column: str, text: str, zone: tzinfo) -> datetime | None:
    """Return an ISO 8601 instant, in `zone` where it names none, or None for nothing. Raises LineRefused."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise LineRefused(f"{column} {shown(text)}: an instant is ISO 8601 such as 2026-03-01T14:30:00+00:00") from None


def shown(text: str) -> str:
    """Return a refused value as a report shows it."""
    return repr(text[:40])
