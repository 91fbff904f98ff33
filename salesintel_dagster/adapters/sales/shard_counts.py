"""How many shards the indexes have: stored in the table itself, so that readers go over the most that ever was used.

The item is `SHARDS` / `CONFIG`. A writer raises the stored counts to its own before its first write; nobody lowers
them, since sales of the higher count may still be there.
"""

from __future__ import annotations

import threading

from salesintel_dagster.adapters.sales.table import ConditionFailed, DynamoTable
from salesintel_dagster.domain.shards import ShardCounts

_KEY = {"PK": {"S": "SHARDS"}, "SK": {"S": "CONFIG"}}


class StoredShardCounts:
    """This deployment's counts beside those in the table."""

    def __init__(self, table: DynamoTable, own: ShardCounts) -> None:
        self._table = table
        self._own = own
        self._lock = threading.Lock()
        self._announced = False

    def for_writing(self) -> ShardCounts:
        """Return the own counts, known to every reader from now on."""
        with self._lock:
            if not self._announced:
                self._raise_to("category", self._own.category)
                self._raise_to("embedding", self._own.embedding)
                self._announced = True
        return self._own

    def for_reading(self) -> ShardCounts:
        """Return the most shards ever used: read anew for each query, since another process may have raised them."""
        item = self._table.ask("get_item", Key=_KEY, ConsistentRead=True).get("Item")
        if item is None:
            return self._own
        stored = ShardCounts(*(int(item.get(name, {"N": "1"})["N"]) for name in ("category", "embedding")))
        return self._own.or_more(stored)

    def _raise_to(self, name: str, count: int) -> None:
        try:
            self._table.ask(
                "update_item",
                Key=_KEY,
                UpdateExpression="SET #name = :count",
                ConditionExpression="attribute_not_exists(#name) OR #name < :count",
                ExpressionAttributeNames={"#name": name},
                ExpressionAttributeValues={":count": {"N": str(count)}},
            )
        except ConditionFailed:
            return  # there are as many or more
