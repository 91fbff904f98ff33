"""Sold events as rows of `sales_history`. Rows are built before anything is written, so that a bad one stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from salesintel_dagster.domain.calendar import quarter, season_year
from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.embedding import FLOAT32_BYTES
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.sale_event import SaleEvent
from salesintel_dagster.domain.vectors import vector_column


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Who wrote a row, and when; `repaired`: not from its event, but from what the sales table knows of it."""

    run_id: str
    at: datetime
    repaired: bool = False


def history_rows(events: Sequence[SaleEvent], ingestion: Ingestion) -> pa.Table:
    """Return one row for each event, in order, as HISTORY_SCHEMA. Raises ValueError for a value that fits no column."""
    values = [_values(event, ingestion) for event in events]
    arrays = [
        _vectors(events)
        if field.name == "embedding_vector"
        else pa.array([row[field.name] for row in values], field.type)
        for field in HISTORY_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=HISTORY_SCHEMA)


def _values(event: SaleEvent, ingestion: Ingestion) -> dict[str, object]:
    sale, record, has_vector = event.sale, event.record, event.vector is not None
    without = EmbeddingStatus.REPAIRED if ingestion.repaired else EmbeddingStatus.NOT_SENT
    return {
        "sale_id": sale.sale_id,
        "product_id": sale.product_id,
        "tenant_id": sale.tenant_id,
        "category": sale.category,
        "brand": sale.brand,
        "condition": sale.condition,
        "condition_raw": sale.condition_raw,
        "sold_price": sale.sold_price,
        "currency": sale.currency,
        "currency_defaulted": sale.currency_defaulted,
        "sold_at": sale.sold_at,
        "sold_date": sale.sold_date,
        "season": record.season.value,
        "season_year": season_year(sale.sold_date),
        "quarter": quarter(sale.sold_date),
        "year": sale.sold_date.year,
        "month": sale.sold_date.month,
        "image_s3_key": event.image_s3_key,
        "image_sha256": None,
        "embedding_id": None,
        "embedding_model": event.embedding_model if has_vector else None,
        "embedding_dimension": len(event.vector or b"") // FLOAT32_BYTES if has_vector else None,
        "embedding_status": (EmbeddingStatus.OK if has_vector else without).value,
        "embedding_error": None,
        "preprocess_version": None,
        "source_system": record.source_system,
        "ingestion_timestamp": ingestion.at,
        "run_id": ingestion.run_id,
        "listed_price": record.listed_price,
        "days_to_sell": record.days_to_sell,
        "vendor_id": record.vendor_id,
        "description": record.description,
        "payload_hash": record.payload_hash,
        "event_version": record.event_version,
    }


def _vectors(events: Sequence[SaleEvent]) -> pa.Array:
    """Return the vectors' column; all vectors of one batch have the configured dimension."""
    present = np.array([event.vector is not None for event in events], dtype=np.bool_)
    flat = np.frombuffer(b"".join(event.vector or b"" for event in events), dtype="<f4")
    return vector_column(flat.reshape(int(present.sum()) or 1, -1), present)
