"""Sold events as Carousel might send them, drawn by seed: the same seed and day give the same events, byte for byte."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from salesintel_dagster.domain.event_bus import OutgoingEvent

KINDS = {
    "dress": ("Ilmari", "Tarn", "Sova", "Maren"),
    "coat": ("Tarn", "Norrby", "Ilmari"),
    "shoes": ("Kivi", "Acme", "Norrby"),
    "bag": ("Sova", "Kivi"),
    "knitwear": ("Maren", "Norrby", None),
}
CONDITIONS = ("new", "like_new", "very_good", "good", "good", "fair")
PRODUCTS_PER_SALE = 3
"""Of so many sales one is of a product that was sold before."""
DIMENSION = 1024


def sample_details(
    number: int, seed: int, tenant_id: str, today: date, *, vectors: bool = False
) -> Iterator[dict[str, object]]:
    """Yield details of sales of the three days before `today`; with a vector each is about 20 KB."""
    sold_until = datetime.combine(today, time(), UTC)
    chance = random.Random(seed)  # noqa: S311 - sample data
    for n in range(number):
        category = chance.choice(tuple(KINDS))
        price = Decimal(chance.randint(500, 25_000)) / 100
        product = chance.randrange(max(1, number * PRODUCTS_PER_SALE))
        sold_at = sold_until - timedelta(seconds=chance.randrange(1, 3 * 86_400))
        detail: dict[str, object] = {
            "saleId": f"SAMPLE-{today:%Y%m%d}-{seed}-{n}",
            "productId": f"SAMPLE-P-{product}",
            "tenantId": tenant_id,
            "category": category,
            "brand": chance.choice(KINDS[category]),
            "condition": chance.choice(CONDITIONS),
            "salePrice": str(price),
            "listedPrice": str(price + chance.randint(0, 40)),
            "currency": "EUR",
            "soldAt": sold_at.isoformat(timespec="seconds"),
            "daysToSell": chance.randint(1, 120),
            "vendorId": f"V-{chance.randint(1, 50)}",
            "description": f"{category.capitalize()}, worn {chance.randint(0, 9)} times",
        }
        if vectors:
            detail |= _vector(chance)
        yield {name: value for name, value in detail.items() if value is not None}


def sample_events(
    number: int, seed: int, tenant_id: str, today: date, *, vectors: bool = False
) -> Iterator[OutgoingEvent]:
    """Yield them as they are sent; the place is a number from 1."""
    details = sample_details(number, seed, tenant_id, today, vectors=vectors)
    for place, detail in enumerate(details, start=1):
        yield OutgoingEvent(place, json.dumps(detail))


def _vector(chance: random.Random) -> dict[str, object]:
    values = [chance.gauss(0.0, 1.0) for _ in range(DIMENSION)]
    norm = sum(value * value for value in values) ** 0.5
    return {"embedding": [round(value / norm, 16) for value in values], "embeddingModel": "amazon.titan-embed-image-v1"}
