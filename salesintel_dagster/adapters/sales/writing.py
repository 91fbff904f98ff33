"""Arrivals and changes, each one transaction of a sale and its guard: both or neither, and never over another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salesintel_dagster.adapters.sales.items import (
    ABSENT,
    HELD,
    SAME_PAYLOAD,
    TTL_NAME,
    guard_item,
    guarded_key,
    key_of,
    sale_item,
    text_in,
)
from salesintel_dagster.adapters.sales.reading import DynamoReading
from salesintel_dagster.adapters.sales.table import ConditionFailed, Item
from salesintel_dagster.domain.errors import RevisionConflict, SaleNotFound, SalesUnavailable
from salesintel_dagster.domain.sale_changes import changed, judged, require_storable, stored
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import guard_key_pair, sale_key_pair
from salesintel_dagster.domain.sales_repository import (
    CorrectionOutcome,
    CorrectionResult,
    PutOutcome,
    PutResult,
    StoredSale,
)
from salesintel_dagster.domain.tenancy import CallerContext

RACES_RUN = 10
"""A change that somebody else's change overtook is judged anew, this often."""


class DynamoWriting(DynamoReading):
    """Put, correct, withdraw, update, delete."""

    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        """Write a sale that is not there yet. Never changes one that is there."""
        context.require(record.tenant)
        require_storable(record)
        sale = stored(record, 1)
        items = (guard_item(sale), sale_item(sale, self._shards.for_writing()))
        for _ in range(RACES_RUN):
            try:
                self._table.transact([("Put", {"Item": item, **self._absent()}) for item in items])
            except ConditionFailed as there:
                found = self._found(context, sale, there)
                if found is not None:
                    return found
            else:
                return PutResult(PutOutcome.CREATED, record.payload_hash)
        raise SalesUnavailable(f"sale {record.sale_id!r} came and went {RACES_RUN} times while it was put")

    def correct(self, context: CallerContext, record: SaleRecord) -> CorrectionResult:
        """Replace a sale by a higher `event_version` of it."""
        context.require(record.tenant)
        require_storable(record)
        for _ in range(RACES_RUN):
            held = self._required(context, record.sale_id)
            result = judged(held.record, record)
            if result.outcome is not CorrectionOutcome.APPLIED or self._replace(held, record) is not None:
                return result
        raise RevisionConflict(f"sale {record.sale_id!r} was changed {RACES_RUN} times while it was corrected")

    def withdraw(self, context: CallerContext, record: SaleRecord) -> bool:
        """Delete a sale and its guard where it is still this payload under this key; tell whether it was."""
        context.require(record.tenant)
        pairs = (guard_key_pair(record.tenant, record.sale_id), sale_key_pair(record.tenant, record.key))
        values = {":hash": {"S": record.payload_hash}}
        same = {"ConditionExpression": SAME_PAYLOAD, "ExpressionAttributeValues": values}
        try:
            self._table.transact([("Delete", {"Key": key_of(pair), **same}) for pair in pairs])
        except ConditionFailed:
            return False
        return True

    def update(self, context: CallerContext, sale_id: str, changes: Mapping[str, object], revision: int) -> StoredSale:
        """Change fields of the sale that has `revision`; return what is there now."""
        held = self._required(context, sale_id)
        _require_revision(held, revision)
        new = changed(held.record, changes)
        require_storable(new)
        replaced = self._replace(held, new)
        if replaced is None:
            _require_revision(self._required(context, sale_id), revision)
            raise RevisionConflict(f"sale {sale_id!r} was changed while it was updated; read it again")
        return replaced

    def delete(self, context: CallerContext, sale_id: str, revision: int | None = None) -> StoredSale:
        """Delete the sale and its guard; return what was there."""
        for _ in range(RACES_RUN):
            held = self._required(context, sale_id)
            if revision is not None:
                _require_revision(held, revision)
            pairs = (guard_key_pair(context.tenant, sale_id), sale_key_pair(context.tenant, held.record.key))
            try:
                self._table.transact([("Delete", {"Key": key_of(pair), **self._unchanged(held)}) for pair in pairs])
            except ConditionFailed:
                continue
            return held
        raise RevisionConflict(f"sale {sale_id!r} was changed {RACES_RUN} times while it was deleted")

    def _replace(self, held: StoredSale, record: SaleRecord) -> StoredSale | None:
        """Put the record where `held` is, or take it along where its key moved; None where `held` is no more."""
        new = stored(record, held.revision + 1)
        item, unchanged = sale_item(new, self._shards.for_writing()), self._unchanged(held)
        actions: list[tuple[str, Item]] = [("Put", {"Item": guard_item(new), **unchanged})]
        if record.key == held.record.key:
            actions.append(("Put", {"Item": item, **unchanged}))
        else:
            old = key_of(sale_key_pair(held.record.tenant, held.record.key))
            actions += [("Delete", {"Key": old, **unchanged}), ("Put", {"Item": item, **self._absent()})]
        try:
            self._table.transact(actions)
        except ConditionFailed:
            return None
        return new

    def _found(self, context: CallerContext, sale: StoredSale, there: ConditionFailed) -> PutResult | None:
        """Return what a put makes of what was there instead; None where that has changed since: try again."""
        guard, at_its_key = there.items
        given = sale.record.payload_hash
        if guard is not None and at_its_key is None and self.get(context, guarded_key(guard)) is None:
            return PutResult(PutOutcome.CREATED, given) if self._restore(sale, guard) else None
        held = guard or at_its_key
        if held is None:  # gone again since: deleted by hand, or expired and deleted by DynamoDB
            return None
        held_hash = text_in(held, "payloadHash")
        if held_hash == given and guard is None and not self._adopt(sale):
            return None
        return PutResult(PutOutcome.DUPLICATE if held_hash == given else PutOutcome.CONFLICT, held_hash)

    def _restore(self, sale: StoredSale, guard: Item) -> bool:
        """Put a sale whose guard leads to nothing, deleted by hand as it was. Return whether that still is so."""
        unchanged = self._held_at(text_in(guard, "revision", "N"), text_in(guard, "payloadHash"))
        item = sale_item(sale, self._shards.for_writing())
        try:
            self._table.transact(
                [("Put", {"Item": guard_item(sale), **unchanged}), ("Put", {"Item": item, **self._absent()})]
            )
        except ConditionFailed:
            return False
        return True

    def _adopt(self, sale: StoredSale) -> bool:
        """Give a sale that has none its guard: a batch died between the two. Return whether there is one now."""
        guard = {"Item": guard_item(sale), **self._absent()}
        same = {
            "Key": key_of(sale_key_pair(sale.record.tenant, sale.record.key)),
            "ConditionExpression": "payloadHash = :hash AND revision = :revision",
            "ExpressionAttributeValues": {
                ":hash": {"S": sale.record.payload_hash},
                ":revision": {"N": str(sale.revision)},
            },
        }
        try:
            self._table.transact([("Put", guard), ("ConditionCheck", same)])
        except ConditionFailed:
            return False
        return True

    def _required(self, context: CallerContext, sale_id: str) -> StoredSale:
        held = self.by_sale_id(context, sale_id)
        if held is None:
            raise SaleNotFound(f"tenant {context.tenant} has no sale {sale_id!r}")
        return held

    def _absent(self) -> dict[str, Any]:
        return {
            "ConditionExpression": ABSENT,
            "ExpressionAttributeNames": TTL_NAME,
            "ExpressionAttributeValues": {":now": self._now()},
        }

    def _unchanged(self, held: StoredSale) -> dict[str, Any]:
        return self._held_at(str(held.revision), held.record.payload_hash)

    def _held_at(self, revision: str, payload_hash: str) -> dict[str, Any]:
        values = {":now": self._now(), ":revision": {"N": revision}, ":hash": {"S": payload_hash}}
        return {
            "ConditionExpression": HELD,
            "ExpressionAttributeNames": TTL_NAME,
            "ExpressionAttributeValues": values,
        }

    def _now(self) -> Item:
        return {"N": str(int(self._table.clock.now().timestamp()))}


def _require_revision(held: StoredSale, revision: int) -> None:
    if held.revision != revision:
        raise RevisionConflict(
            f"sale {held.record.sale_id!r} is at revision {held.revision}, not {revision}; read it again"
        )
