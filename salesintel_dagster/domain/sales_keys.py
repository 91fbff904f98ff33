"""The keys of the sales table as pure functions, injective for any text (DESIGN 3.3).

`%` and `#` inside a part are percent-escaped, so that `#` only ever divides parts and no two sales, products or
tenants share a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.sale import shown
from salesintel_dagster.domain.shards import ShardCounts, shard_of

if TYPE_CHECKING:
    from salesintel_dagster.domain.calendar import Season
    from salesintel_dagster.domain.sale_record import SaleRecord

MAX_PARTITION_KEY_BYTES = 2048
MAX_SORT_KEY_BYTES = 1024
GUARD_SORT_KEY = "UNIQUE"
_SALE_SORT_KEY = re.compile(r"SALE#(\d{4}-\d{2}-\d{2})#(.+)", re.DOTALL)
_SALE_PARTITION = re.compile(r"TENANT#([^#]+)#PRODUCT#([^#]+)", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class SaleKey:
    """Where a sale of the caller's tenant lies; ordered by day first."""

    sold_date: date
    product_id: str
    sale_id: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A partition key and a sort key."""

    partition: str
    sort: str


def checked(field: str, text: str, pair: KeyPair) -> KeyPair:
    """Return the key made of `text`. Raises SaleRefused where DynamoDB takes no such key."""
    try:
        too_long = (
            len(pair.partition.encode()) > MAX_PARTITION_KEY_BYTES or len(pair.sort.encode()) > MAX_SORT_KEY_BYTES
        )
    except UnicodeEncodeError:
        raise SaleRefused(field, shown(text), "text is valid Unicode") from None
    if too_long:
        rule = f"a key ends at {MAX_PARTITION_KEY_BYTES} bytes, its sort key at {MAX_SORT_KEY_BYTES}"
        raise SaleRefused(field, shown(text), rule)
    return pair


def escaped(part: str) -> str:
    """Return the part with `%` and `#` percent-escaped and everything else as it is."""
    return part.replace("%", "%25").replace("#", "%23")


def unescaped(part: str) -> str:
    """Return what `escaped` was given."""
    return unquote(part, errors="strict")


def key_text(key: SaleKey) -> str:
    """Return the key as one text for a command line, `2026-11-20#product#sale`: no quote, blank or control in it."""
    return "#".join((key.sold_date.isoformat(), quote(key.product_id, safe=""), quote(key.sale_id, safe="")))


def read_key_text(text: str) -> SaleKey:
    """Return the key that `key_text` was given. Raises SaleRefused."""
    parts = text.split("#")
    try:
        day, product, sale = parts[0], unescaped(parts[1]), unescaped(parts[2])
        if len(parts) == len(("day", "product", "sale")):
            return SaleKey(date.fromisoformat(day), product, sale)
    except (IndexError, ValueError):
        pass
    raise SaleRefused("after", shown(text), "the key that the page before gave, such as 2026-11-20#product#sale")


def sale_key_pair(tenant: str, key: SaleKey) -> KeyPair:
    """Return the sale's own key: `TENANT#t#PRODUCT#p` / `SALE#day#id`."""
    return KeyPair(
        product_partition(tenant, key.product_id), f"SALE#{key.sold_date.isoformat()}#{escaped(key.sale_id)}"
    )


def guard_key_pair(tenant: str, sale_id: str) -> KeyPair:
    """Return the key of the item that makes (tenant, sale_id) unique and finds the sale by its id."""
    return KeyPair(f"TENANT#{escaped(tenant)}#SALEID#{escaped(sale_id)}", GUARD_SORT_KEY)


def product_partition(tenant: str, product_id: str) -> str:
    """Return the partition of a product's sales."""
    return f"TENANT#{escaped(tenant)}#PRODUCT#{escaped(product_id)}"


def category_partition(tenant: str, category: str, shard: int) -> str:
    """Return the GSI1 partition of one shard of a category."""
    return f"TENANT#{escaped(tenant)}#CATEGORY#{escaped(category)}#SHARD#{shard}"


def season_sort_key(season: Season, day: date) -> str:
    """Return the GSI1 sort key."""
    return f"SEASON#{season.value}#DATE#{day.isoformat()}"


def embedding_partition(tenant: str, shard: int) -> str:
    """Return the GSI2 partition of one shard. Every sale is there, with or without an embedding."""
    return f"TENANT#{escaped(tenant)}#EMBTYPE#PRODUCT#SHARD#{shard}"


def brand_partition(tenant: str, brand: str) -> str:
    """Return the GSI3 partition of a brand."""
    return f"TENANT#{escaped(tenant)}#BRAND#{escaped(brand)}"


def day_sort_key(day: date) -> str:
    """Return the GSI2 and GSI3 sort key."""
    return f"DATE#{day.isoformat()}"


def index_keys(record: SaleRecord, shards: ShardCounts) -> dict[str, KeyPair]:
    """Return the record's key in each index; an absent category or brand leaves its index out (E10)."""
    tenant, day = record.tenant, record.sold_date
    embedding = embedding_partition(tenant, shard_of(record.sale_id, shards.embedding))
    keys = {"GSI2": KeyPair(embedding, day_sort_key(day))}
    if record.category is not None:
        partition = category_partition(tenant, record.category, shard_of(record.sale_id, shards.category))
        keys["GSI1"] = KeyPair(partition, season_sort_key(record.season, day))
    if record.brand is not None:
        keys["GSI3"] = KeyPair(brand_partition(tenant, record.brand), day_sort_key(day))
    return keys


def read_sale_key(pair: KeyPair) -> tuple[str, SaleKey] | None:
    """Return the tenant and the key that a sale's key pair was made of; None where it is no sale's.

    Other software wrote ids unescaped: `100%` is no key of ours, since the sale read from it would be looked for under
    `100%25`, where it is not.
    """
    partition, sort = _SALE_PARTITION.fullmatch(pair.partition), _SALE_SORT_KEY.fullmatch(pair.sort)
    if partition is None or sort is None:
        return None
    try:
        tenant, product, sale_id = (unescaped(part) for part in (partition[1], partition[2], sort[2]))
        key = SaleKey(date.fromisoformat(sort[1]), product, sale_id)
    except ValueError:
        return None
    return (tenant, key) if sale_key_pair(tenant, key) == pair else None
