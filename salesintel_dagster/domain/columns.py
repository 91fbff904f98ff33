"""The columns of every data set that leaves a stage: names, Arrow types, and what may be null.

The three staged data sets of a day are aligned: row n of each speaks of the same sale, batch by batch.
"""

from __future__ import annotations

import pyarrow as pa

BATCH_ROWS = 2_000
"""Rows in one Arrow batch and in one Parquet row group of a staged day: 8 MB of vectors."""

PRICE = pa.decimal128(18, 2)
INSTANT = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


RAW_SCHEMA = pa.schema(
    [
        _required("sale_id", pa.string()),
        _required("product_id", pa.string()),
        _required("tenant_id", pa.string()),
        _required("category", pa.string()),
        pa.field("brand", pa.string()),
        _required("condition", pa.string()),
        pa.field("condition_raw", pa.string()),
        _required("sold_price", PRICE),
        _required("currency", pa.string()),
        _required("currency_defaulted", pa.bool_()),
        _required("sold_at", INSTANT),
        _required("sold_date", pa.date32()),
        pa.field("image_url", pa.string()),
    ]
)

IMAGE_SCHEMA = pa.schema(
    [
        _required("tenant_id", pa.string()),
        _required("sale_id", pa.string()),
        pa.field("url_sha256", pa.string()),
        _required("image_status", pa.string()),
        pa.field("image_reason", pa.string()),
        pa.field("image_s3_key", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("image_bytes", pa.int64()),
        pa.field("image_width", pa.int32()),
        pa.field("image_height", pa.int32()),
        _required("attempts", pa.int32()),
    ]
)

EMBEDDING_SCHEMA = pa.schema(
    [
        _required("tenant_id", pa.string()),
        _required("sale_id", pa.string()),
        pa.field("image_sha256", pa.string()),
        _required("embedding_status", pa.string()),
        pa.field("embedding_error", pa.string()),
        _required("embedding_model", pa.string()),
        _required("embedding_dimension", pa.int32()),
        _required("preprocess_version", pa.string()),
        pa.field("embedding_vector", VECTOR),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        _required("code", pa.string()),
        _required("field", pa.string()),
        _required("value", pa.string()),
        _required("rule", pa.string()),
        _required("row_json", pa.string()),
    ]
)

SALES_SCHEMA = pa.schema(
    [
        _required("sale_id", pa.string()),
        _required("product_id", pa.string()),
        _required("tenant_id", pa.string()),
        _required("category", pa.string()),
        pa.field("brand", pa.string()),
        _required("condition", pa.string()),
        pa.field("condition_raw", pa.string()),
        _required("sold_price", PRICE),
        _required("currency", pa.string()),
        _required("currency_defaulted", pa.bool_()),
        _required("sold_at", INSTANT),
        _required("sold_date", pa.date32()),
        _required("season", pa.string()),
        _required("season_year", pa.int32()),
        _required("quarter", pa.string()),
        _required("year", pa.int32()),
        _required("month", pa.int32()),
        pa.field("image_s3_key", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("embedding_id", pa.string()),
        pa.field("embedding_model", pa.string()),
        pa.field("embedding_dimension", pa.int32()),
        pa.field("embedding_vector", VECTOR),
        _required("embedding_status", pa.string()),
        pa.field("embedding_error", pa.string()),
        pa.field("preprocess_version", pa.string()),
        _required("source_system", pa.string()),
        _required("ingestion_timestamp", INSTANT),
        _required("run_id", pa.string()),
    ]
)

HISTORY_SCHEMA = pa.schema(
    [
        *SALES_SCHEMA,
        pa.field("listed_price", PRICE),
        pa.field("days_to_sell", pa.int32()),
        pa.field("vendor_id", pa.string()),
        pa.field("description", pa.string()),
        _required("payload_hash", pa.string()),
        _required("event_version", pa.int32()),
    ]
)
"""`sales_history`: the same core as `smartgo_sales`, then what only an event tells."""
