from __future__ import annotations

import pyarrow as pa
import pytest

from salesintel_dagster.domain.column_meanings import MEANINGS
from salesintel_dagster.domain.columns import (
    BATCH_ROWS,
    EMBEDDING_SCHEMA,
    HISTORY_SCHEMA,
    IMAGE_SCHEMA,
    INSTANT,
    PRICE,
    QUARANTINE_SCHEMA,
    RAW_SCHEMA,
    SALES_SCHEMA,
    VECTOR,
)
from salesintel_dagster.domain.day_frame import chunked
from salesintel_dagster.domain.embedding import FLOAT32_BYTES, TITAN_DIMENSION
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows

DESIGNED = """
sale_id product_id tenant_id category brand condition condition_raw sold_price currency sold_at sold_date season
season_year quarter year month image_s3_key image_sha256 embedding_id embedding_model embedding_dimension
embedding_vector embedding_status embedding_error preprocess_version source_system ingestion_timestamp run_id
""".split()


def test_the_sales_table_has_the_designed_columns() -> None:
    assert [name for name in SALES_SCHEMA.names if name != "currency_defaulted"] == DESIGNED


def test_what_identifies_partitions_and_prices_a_sale_is_never_null() -> None:
    never = "tenant_id sale_id product_id category sold_price currency sold_at sold_date year month season quarter"
    assert not any(SALES_SCHEMA.field(name).nullable for name in never.split())


def test_what_a_missing_image_leaves_out_may_be_null() -> None:
    missing = "image_s3_key image_sha256 embedding_id embedding_model embedding_dimension embedding_vector"
    assert all(SALES_SCHEMA.field(name).nullable for name in missing.split())
    assert not SALES_SCHEMA.field("embedding_status").nullable


def test_prices_are_exact_instants_are_utc_and_vectors_are_float32() -> None:
    assert pa.types.is_decimal(PRICE)
    assert (PRICE.precision, PRICE.scale) == (18, 2)
    assert INSTANT.tz == "UTC"
    assert VECTOR.value_type == pa.float32()


@pytest.mark.parametrize("schema", [IMAGE_SCHEMA, EMBEDDING_SCHEMA, RAW_SCHEMA], ids=["images", "embeddings", "raw"])
def test_every_staged_row_names_its_sale(schema: pa.Schema) -> None:
    assert not schema.field("tenant_id").nullable
    assert not schema.field("sale_id").nullable


def test_what_several_stages_carry_has_one_type() -> None:
    for schema in (RAW_SCHEMA, IMAGE_SCHEMA, EMBEDDING_SCHEMA):
        for field in schema:
            if field.name in SALES_SCHEMA.names:
                assert SALES_SCHEMA.field(field.name).type == field.type, field.name


def test_a_quarantined_row_always_says_why() -> None:
    assert not any(field.nullable for field in QUARANTINE_SCHEMA)


def test_a_batch_of_vectors_stays_under_ten_megabytes() -> None:
    assert BATCH_ROWS * TITAN_DIMENSION * FLOAT32_BYTES < 10_000_000


@pytest.mark.parametrize("sizes", [(3, 3, 3), (9,), (1, 8), (4, 4, 1), ()], ids=str)
def test_batches_are_gathered_into_chunks_without_losing_a_row(sizes: tuple[int, ...]) -> None:
    scope = day_scope()
    first = [sum(sizes[:number]) for number in range(len(sizes))]
    batches = [sale_rows(scope, size, first=start) for start, size in zip(first, sizes, strict=True)]
    chunks = list(chunked(batches, 4))
    assert [chunk.num_rows for chunk in chunks] == ([4, 4, 1] if sizes else [])
    found = [sale for chunk in chunks for sale in chunk["sale_id"].to_pylist()]
    assert found == [f"sale-1103-{n}" for n in range(sum(sizes))]


def test_every_column_has_a_meaning_and_no_meaning_is_of_no_column():
    schemas = (RAW_SCHEMA, IMAGE_SCHEMA, EMBEDDING_SCHEMA, SALES_SCHEMA, HISTORY_SCHEMA)
    assert MEANINGS.keys() == {name for schema in schemas for name in schema.names}
