"""Look-ups by key and by sale id, strongly consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from salesintel_dagster.adapters.sales.items import guarded_key, is_live, key_of, read_sale
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import BATCH_GET_KEYS, DynamoTable, Item
from salesintel_dagster.domain.sales_keys import SaleKey, checked, guard_key_pair, sale_key_pair
from salesintel_dagster.domain.sales_repository import StoredSale
from salesintel_dagster.domain.tenancy import CallerContext

WORKERS = 16
"""Calls at once for one question; the AWS client's connection pool holds many of them."""
MOVES_FOLLOWED = 5
"""A sale whose day or product changes between reading its guard and reading it is looked for again, this often."""

Given = TypeVar("Given")
Answer = TypeVar("Answer")


class DynamoReading:
    """The look-ups, and what every part of the door stands on."""

    def __init__(self, table: DynamoTable, shards: StoredShardCounts) -> None:
        self._table = table
        self._shards = shards

    def get(self, context: CallerContext, key: SaleKey) -> StoredSale | None:
        """Return the sale of that key."""
        item = self._one(key_of(checked("key", key.sale_id, sale_key_pair(context.tenant, key))))
        return read_sale(item, context.tenant) if item is not None else None

    def by_sale_id(self, context: CallerContext, sale_id: str) -> StoredSale | None:
        """Return the sale of that id, by way of its guard."""
        pair = checked("sale_id", sale_id, guard_key_pair(context.tenant, sale_id))
        for _ in range(MOVES_FOLLOWED):
            guard = self._one(key_of(pair))
            if guard is None:
                return None
            sale = self.get(context, guarded_key(guard))
            if sale is not None:
                return sale
        return None

    def get_many(self, context: CallerContext, keys: Sequence[SaleKey]) -> tuple[StoredSale, ...]:
        """Return those of the keys that are there, in the order of their keys."""
        pairs = [checked("key", key.sale_id, sale_key_pair(context.tenant, key)) for key in sorted(set(keys))]
        items = self._items_of([key_of(pair) for pair in pairs])
        now = self._table.clock.now()
        sales = (read_sale(item, context.tenant) for item in items if is_live(item, now))
        return tuple(sorted(sales, key=lambda sale: sale.record.key))

    def _items_of(self, keys: Sequence[Item]) -> list[Item]:
        """Return those of distinct keys that are there, expired ones too, in no order."""
        chunks = [keys[start : start + BATCH_GET_KEYS] for start in range(0, len(keys), BATCH_GET_KEYS)]
        return [item for chunk in at_once(self._table.get_batch, chunks) for item in chunk]

    def _one(self, key: Item) -> Item | None:
        item: Item | None = self._table.ask("get_item", Key=key, ConsistentRead=True).get("Item")
        return item if is_live(item, self._table.clock.now()) else None


def at_once(work: Callable[[Given], Answer], given: Iterable[Given]) -> list[Answer]:
    """Return the answers in the order given, worked out by up to `WORKERS` threads. One that fails fails them all."""
    jobs = list(given)
    if len(jobs) <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(min(WORKERS, len(jobs)), "sales") as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
