"""Sales as the sales table keeps them, with everything in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from salesintel_dagster.domain.calendar import Hemisphere, season
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale_record import EmbeddingPointer, SaleRecord

DAY = date(2026, 11, 20)


def record(sale_id: str = "S-1", **changes: Any) -> SaleRecord:  # noqa: ANN401 - any field
    """Return a sale of 20 November 2026 with everything in it, changed as told."""
    day = changes.get("sold_date", DAY)
    values: dict[str, Any] = {
        "tenant": "acme",
        "sale_id": sale_id,
        "product_id": "P-1",
        "category": "dress",
        "brand": "Ilmari",
        "condition": "good",
        "sold_price": Decimal("35.50"),
        "currency": "EUR",
        "sold_at": datetime.combine(day, time(12, 30, 0, 7), UTC),
        "sold_date": day,
        "season": season(day, Hemisphere.NORTH),
        "embedding": EmbeddingPointer("embeddings/ab/abcd", "amazon.titan-embed-image-v1", 1024),
        "source_system": "carousel",
        "listed_price": Decimal(49),
        "days_to_sell": 12,
        "vendor_id": "V-7",
        "description": "A dress, worn twice",
        **changes,
    }
    values.setdefault(
        "payload_hash", payload_hash({"id": sale_id, "price": str(values["sold_price"]), "day": str(day)})
    )
    return SaleRecord(**values)
