"""The sales table as the TTL backfill sees it: a scan of keys, a conditional update, a checkpoint in the table itself.

The checkpoint is the item `MAINTENANCE#TTL-BACKFILL` / `CHECKPOINT`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from salesintel_dagster.adapters.sales.items import TTL_NAME, key_of
from salesintel_dagster.adapters.sales.table import ConditionFailed, DynamoTable
from salesintel_dagster.domain.errors import SaleUnreadable
from salesintel_dagster.domain.sales_keys import KeyPair
from salesintel_dagster.domain.ttl_backfill import Checkpoint, SetOutcome, TtlItem, TtlPage, TtlStore, TtlTally

_CHECKPOINT = KeyPair("MAINTENANCE#TTL-BACKFILL", "CHECKPOINT")


class DynamoTtlStore(TtlStore):
    """All tenants' items."""

    def __init__(self, table: DynamoTable) -> None:
        self._table = table

    def page(self, after: KeyPair | None, most: int) -> TtlPage:
        """Return up to `most` items behind `after`, strongly consistent."""
        asked: dict[str, Any] = {"Limit": most, "ConsistentRead": True}
        asked |= {"ProjectionExpression": "PK, SK, soldDate, #ttl", "ExpressionAttributeNames": TTL_NAME}
        asked |= {"ExclusiveStartKey": key_of(after)} if after is not None else {}
        answer = self._table.ask("scan", **asked)
        last = answer.get("LastEvaluatedKey")
        return TtlPage(tuple(_ttl_item(item) for item in answer["Items"]), _pair(last) if last else None)

    def set_ttl(self, item: TtlItem, ttl: int) -> SetOutcome:
        """Give an item its ttl if it is there and has none: no update ever makes an item."""
        try:
            self._table.ask(
                "update_item",
                Key=key_of(item.key),
                UpdateExpression="SET #ttl = :ttl",
                ConditionExpression="attribute_exists(PK) AND attribute_not_exists(#ttl)",
                ExpressionAttributeNames=TTL_NAME,
                ExpressionAttributeValues={":ttl": {"N": str(ttl)}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as there:
            return SetOutcome.THERE if there.items[0] is not None else SetOutcome.GONE
        return SetOutcome.SET

    def checkpoint(self) -> Checkpoint | None:
        """Return where an unfinished backfill stopped. Raises SaleUnreadable where it is none of ours."""
        item = self._table.ask("get_item", Key=key_of(_CHECKPOINT), ConsistentRead=True).get("Item")
        if item is None:
            return None
        try:
            kept: dict[str, Any] = json.loads(item["tally"]["S"])
            kept |= {name: tuple(kept[name]) for name in ("too_old_keys", "unreadable_keys")}
            return Checkpoint(KeyPair(item["afterPK"]["S"], item["afterSK"]["S"]), TtlTally(**kept))
        except (KeyError, TypeError, ValueError) as error:
            raise SaleUnreadable(
                f"the backfill's checkpoint in table {self._table.name} is unreadable ({type(error).__name__}); "
                "begin anew with --restart"
            ) from None

    def keep(self, checkpoint: Checkpoint | None) -> None:
        """Remember where this backfill is; None: it has ended."""
        if checkpoint is None:
            self._table.ask("delete_item", Key=key_of(_CHECKPOINT))
            return
        where = {"afterPK": {"S": checkpoint.after.partition}, "afterSK": {"S": checkpoint.after.sort}}
        tally = {"tally": {"S": json.dumps(asdict(checkpoint.tally))}}
        self._table.ask("put_item", Item=key_of(_CHECKPOINT) | where | tally)


def _ttl_item(item: Mapping[str, Any]) -> TtlItem:
    (ttl_type,) = item.get("ttl", {None: None})
    return TtlItem(_pair(item), item.get("soldDate", {}).get("S"), ttl_type)


def _pair(item: Mapping[str, Any]) -> KeyPair:
    return KeyPair(item["PK"]["S"], item["SK"]["S"])
