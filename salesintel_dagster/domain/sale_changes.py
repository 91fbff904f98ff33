"""What may be stored, what may be changed, and which of two versions stands. Pure; fake and adapter share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from salesintel_dagster.domain.calendar import Hemisphere, season
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sale import shown
from salesintel_dagster.domain.sale_record import MAX_RECORD_BYTES, SaleRecord
from salesintel_dagster.domain.sales_keys import (
    KeyPair,
    checked,
    guard_key_pair,
    index_keys,
    sale_key_pair,
)
from salesintel_dagster.domain.sales_repository import CorrectionOutcome, CorrectionResult, StoredSale
from salesintel_dagster.domain.shards import MAX_SHARDS, ShardCounts

IDENTITY_FIELDS = frozenset({"tenant", "sale_id", "payload_hash", "event_version", "source_system"})
"""Fields of a record that `update` does not change."""
CHANGEABLE_FIELDS = frozenset(field.name for field in fields(SaleRecord)) - IDENTITY_FIELDS
_MOST_SHARDS = ShardCounts(MAX_SHARDS, MAX_SHARDS)


def stored(record: SaleRecord, revision: int) -> StoredSale:
    """Return the record as it is kept from now on."""
    return StoredSale(record, revision, ttl_of(record.sold_date))


def require_storable(record: SaleRecord) -> None:
    """Raise SaleRefused where DynamoDB would refuse the item: keys of 2,048 and 1,024 bytes, items of 400 KB."""
    checked("sale_id", record.sale_id, KeyPair("", sale_key_pair(record.tenant, record.key).sort))
    checked("sale_id", record.sale_id, guard_key_pair(record.tenant, record.sale_id))
    checked("product_id", record.product_id, sale_key_pair(record.tenant, record.key))
    indexed = index_keys(record, _MOST_SHARDS)
    for index, field, text in (("GSI1", "category", record.category), ("GSI3", "brand", record.brand)):
        if text is not None:
            checked(field, text, indexed[index])
    if record.text_bytes > MAX_RECORD_BYTES:
        raise SaleRefused("sale", f"{record.text_bytes} bytes", f"at most {MAX_RECORD_BYTES} bytes of text")


def changed(record: SaleRecord, changes: Mapping[str, object]) -> SaleRecord:
    """Return the record with the changes; with a new day the season follows, in the hemisphere it was of.

    Raises SaleRefused for a field that is none or does not change, and for a value that breaks its rule.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE_FIELDS:
            raise SaleRefused(name, shown(value), f"a field that may change: {', '.join(sorted(CHANGEABLE_FIELDS))}")
    if not changes:
        raise SaleRefused("changes", "none", "at least one field")
    new = replace(record, **changes)  # type: ignore[arg-type]  # the constructor judges every value
    if new.sold_date != record.sold_date and "season" not in changes:
        north = season(record.sold_date, Hemisphere.NORTH) is record.season
        new = replace(new, season=season(new.sold_date, Hemisphere.NORTH if north else Hemisphere.SOUTH))
    return new


def judged(held: SaleRecord, given: SaleRecord) -> CorrectionResult:
    """Return what becomes of a correction beside the sale that is there: the higher version stands."""
    if given.event_version > held.event_version:
        return CorrectionResult(CorrectionOutcome.APPLIED, given.payload_hash, given.event_version)
    if given.event_version < held.event_version:
        outcome = CorrectionOutcome.STALE
    elif given.payload_hash == held.payload_hash:
        outcome = CorrectionOutcome.DUPLICATE
    else:
        outcome = CorrectionOutcome.CONFLICT
    return CorrectionResult(outcome, held.payload_hash, held.event_version)
