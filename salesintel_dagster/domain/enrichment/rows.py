"""The table `product_enrichment`: its columns, and a product's facts as one of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from salesintel_dagster.domain.columns import INSTANT, PRICE
from salesintel_dagster.domain.enrichment.facts import PRICE_KINDS, ProductFacts
from salesintel_dagster.domain.enrichment.product import CatalogProduct

PRODUCT_ENRICHMENT = "product_enrichment"
"""The table, and the asset that stands for it."""
KEY = ("tenant_id", "product_id")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


ENRICHMENT_SCHEMA = pa.schema(
    [
        _required("tenant_id", pa.string()),
        _required("product_id", pa.string()),
        _required("catalog_id", pa.string()),
        _required("job_id", pa.string()),
        _required("provider", pa.string()),
        _required("lookup_kind", pa.string()),
        _required("lookup_identifier", pa.string()),
        _required("matches", pa.int32()),
        _required("asin", pa.string()),
        pa.field("title", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("category", pa.string()),
        pa.field("category_path", pa.string()),
        *(pa.field(f"price_{kind}", PRICE) for kind in PRICE_KINDS),
        _required("currency", pa.string()),
        pa.field("sales_rank", pa.int64()),
        _required("image_urls", pa.list_(pa.field("element", pa.string(), nullable=False))),
        _required("catalog_attributes", pa.string()),
        pa.field("provider_updated_at", INSTANT),
        _required("enriched_at", INSTANT),
        _required("run_id", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class RowSource:
    """What the rows of one batch share."""

    tenant: str
    catalog_id: str
    job_id: str
    provider: str
    run_id: str
    enriched_at: datetime


Row = dict[str, object]
"""One row by column."""


def row(source: RowSource, product: CatalogProduct, facts: ProductFacts) -> Row:
    """Return one row. What the provider does not know is null; nothing is filled in from the catalog."""
    return {
        "tenant_id": source.tenant,
        "product_id": product.product_id,
        "catalog_id": source.catalog_id,
        "job_id": source.job_id,
        "provider": source.provider,
        "lookup_kind": product.key.kind.value,
        "lookup_identifier": product.key.identifier,
        "matches": facts.matches,
        "asin": facts.asin,
        "title": facts.title,
        "brand": facts.brand,
        "category": facts.category,
        "category_path": facts.category_path,
        **{f"price_{kind}": facts.prices.get(kind) for kind in PRICE_KINDS},
        "currency": facts.currency,
        "sales_rank": facts.sales_rank,
        "image_urls": list(facts.image_urls),
        "catalog_attributes": product.attributes,
        "provider_updated_at": facts.updated_at,
        "enriched_at": source.enriched_at,
        "run_id": source.run_id,
    }


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Return rows as a table; of two with one key the later one stands (two catalogs may hold one product)."""
    by_key = {(one["tenant_id"], one["product_id"]): one for one in rows}
    return pa.Table.from_pylist(list(by_key.values()), ENRICHMENT_SCHEMA)
