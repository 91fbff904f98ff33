"""Records as DynamoDB items and back: the one place that knows the attributes. Money is a Number, digit by digit.

A sale's item carries its keys in the table and in the indexes; its guard carries what decides about a second put, and
where the sale lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from salesintel_dagster.adapters.sales.table import Item
from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SaleRefused, SaleUnreadable
from salesintel_dagster.domain.retention import is_expired
from salesintel_dagster.domain.sale_record import EmbeddingPointer, SaleRecord
from salesintel_dagster.domain.sales_keys import (
    KeyPair,
    SaleKey,
    guard_key_pair,
    index_keys,
    read_sale_key,
    sale_key_pair,
)
from salesintel_dagster.domain.sales_repository import StoredSale
from salesintel_dagster.domain.shards import ShardCounts

_TEXTS = {
    "sale_id": "saleId",
    "product_id": "productId",
    "category": "category",
    "brand": "brand",
    "condition": "condition",
    "currency": "currency",
    "source_system": "sourceSystem",
    "vendor_id": "vendorId",
    "description": "description",
    "payload_hash": "payloadHash",
}
_NUMBERS = {
    "sold_price": "salePrice",
    "listed_price": "listedPrice",
    "days_to_sell": "daysToSell",
    "event_version": "eventVersion",
}
"""Our fields and the item's attributes; salePrice and embeddingS3Key are what GSI2 projects (DESIGN 3.3)."""
_WHOLE = frozenset({"days_to_sell", "event_version"})

ABSENT = "attribute_not_exists(PK) OR #ttl <= :now"
"""An expired item counts as absent (E7). Without a ttl `#ttl <= :now` is false: such an item is there."""
HELD = "revision = :revision AND payloadHash = :hash AND (attribute_not_exists(#ttl) OR #ttl > :now)"
"""The item is there, has not expired and nobody has changed it, nor deleted it and put another payload."""
SAME_PAYLOAD = "payloadHash = :hash"
TTL_NAME = {"#ttl": "ttl"}  # a reserved word


def key_of(pair: KeyPair) -> Item:
    """Return the key attributes of the base table."""
    return {"PK": {"S": pair.partition}, "SK": {"S": pair.sort}}


def sale_item(sale: StoredSale, shards: ShardCounts) -> Item:
    """Return the whole item of a sale: an attribute that has no value is left out."""
    record = sale.record
    item = key_of(sale_key_pair(record.tenant, record.key))
    for index, pair in index_keys(record, shards).items():
        item |= {f"{index}PK": {"S": pair.partition}, f"{index}SK": {"S": pair.sort}}
    item |= {attribute: {"S": text} for attribute, text in _present(record, _TEXTS)}
    item |= {attribute: {"N": _number(value)} for attribute, value in _present(record, _NUMBERS)}
    item |= {
        "entity": {"S": "SALE"},
        "tenantId": {"S": record.tenant},
        "soldAt": {"S": record.sold_at.astimezone(UTC).isoformat(timespec="microseconds")},
        "soldDate": {"S": record.sold_date.isoformat()},
        "season": {"S": record.season.value},
        **_upkeep(sale),
    }
    if record.embedding is not None:
        item |= {
            "embeddingS3Key": {"S": record.embedding.s3_key},
            "embeddingModel": {"S": record.embedding.model},
            "embeddingDimension": {"N": str(record.embedding.dimension)},
        }
    return item


def guard_item(sale: StoredSale) -> Item:
    """Return the item that makes the sale's id unique and leads to it."""
    record = sale.record
    return key_of(guard_key_pair(record.tenant, record.sale_id)) | {
        "entity": {"S": "GUARD"},
        "saleId": {"S": record.sale_id},
        "productId": {"S": record.product_id},
        "soldDate": {"S": record.sold_date.isoformat()},
        "payloadHash": {"S": record.payload_hash},
        **_upkeep(sale),
    }


def read_sale(item: Mapping[str, Any], tenant: str) -> StoredSale:
    """Return the sale in an item. Raises SaleUnreadable where it is not one of ours, or another tenant's."""
    where = f"item {item['PK']['S']} {item['SK']['S']}"
    found = read_sale_key(KeyPair(item["PK"]["S"], item["SK"]["S"]))
    if found is None or found[0] != tenant:
        raise SaleUnreadable(f"{where}: not a sale of tenant {tenant}")
    try:
        sale = StoredSale(_record(item, tenant), int(item["revision"]["N"]), ttl_in(item))
    except SaleRefused as error:
        raise SaleUnreadable(f"{where}: {error.field}: {error.rule}") from None
    except (KeyError, ValueError, ArithmeticError) as error:
        raise SaleUnreadable(f"{where}: not written by this software ({type(error).__name__}: {error})") from None
    if sale.record.key != found[1]:
        raise SaleUnreadable(f"{where}: its attributes name another sale than its key")
    return sale


def guarded_key(guard: Mapping[str, Any]) -> SaleKey:
    """Return where the sale of a guard lies. Raises SaleUnreadable."""
    try:
        return SaleKey(date.fromisoformat(guard["soldDate"]["S"]), guard["productId"]["S"], guard["saleId"]["S"])
    except (KeyError, ValueError) as error:
        raise SaleUnreadable(f"guard {guard['PK']['S']}: {type(error).__name__}: {error}") from None


def text_in(item: Mapping[str, Any], attribute: str, kind: str = "S") -> str:
    """Return an attribute that every item of ours has. Raises SaleUnreadable where other software wrote this one."""
    try:
        return str(item[attribute][kind])
    except KeyError:
        where = f"item {item['PK']['S']} {item['SK']['S']}"
        raise SaleUnreadable(f"{where}: not written by this software (it has no {attribute})") from None


def is_live(item: Mapping[str, Any] | None, now: datetime) -> bool:
    """Tell whether there is an item that has not expired."""
    return item is not None and not is_expired(ttl_in(item), now)


def ttl_in(item: Mapping[str, Any]) -> int | None:
    """Return the item's ttl; None where it has none, or none that DynamoDB would act on."""
    return int(Decimal(item["ttl"]["N"])) if "N" in item.get("ttl", {}) else None


def _record(item: Mapping[str, Any], tenant: str) -> SaleRecord:
    values: dict[str, Any] = {name: item[attribute]["S"] for name, attribute in _TEXTS.items() if attribute in item}
    for name, attribute in _NUMBERS.items():
        if attribute in item:
            number = item[attribute]["N"]
            values[name] = int(number) if name in _WHOLE else Decimal(number)
    if "embeddingS3Key" in item:
        values["embedding"] = EmbeddingPointer(
            item["embeddingS3Key"]["S"], item["embeddingModel"]["S"], int(item["embeddingDimension"]["N"])
        )
    return SaleRecord(
        tenant=tenant,
        sold_at=datetime.fromisoformat(item["soldAt"]["S"]),
        sold_date=date.fromisoformat(item["soldDate"]["S"]),
        season=Season(item["season"]["S"]),
        **values,
    )


def _present(record: SaleRecord, attributes: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    values = ((attribute, getattr(record, name)) for name, attribute in attributes.items())
    return ((attribute, value) for attribute, value in values if value is not None)


def _number(value: Decimal | int) -> str:
    """Return `35.5` for 35.50, as DynamoDB will: a request that is sent again is then the request it has answered."""
    return format(Decimal(value).normalize(), "f")


def _upkeep(sale: StoredSale) -> Item:
    ttl = {} if sale.ttl is None else {"ttl": {"N": str(sale.ttl)}}
    return {"revision": {"N": str(sale.revision)}, **ttl}
