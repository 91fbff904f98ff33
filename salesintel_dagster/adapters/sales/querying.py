"""Questions over the indexes: every shard in parallel, page after page, then the items themselves by BatchGet.

An index is a moment behind the table, and two of the three carry keys only: whatever it names is read anew, and what
has expired, gone or moved since is left out. A shard that fails makes the whole question fail: no part is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from salesintel_dagster.adapters.sales.items import is_live, key_of, read_sale
from salesintel_dagster.adapters.sales.reading import DynamoReading, at_once
from salesintel_dagster.adapters.sales.table import Item
from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SaleUnreadable
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import (
    KeyPair,
    SaleKey,
    brand_partition,
    category_partition,
    checked,
    day_sort_key,
    embedding_partition,
    product_partition,
    read_sale_key,
    sale_key_pair,
    season_sort_key,
)
from salesintel_dagster.domain.sales_repository import (
    ALL,
    ALWAYS,
    HeldSale,
    PageRequest,
    Period,
    SalePage,
    StoredSale,
)
from salesintel_dagster.domain.tenancy import CallerContext

LEAST_READ_AHEAD = 100
"""Keys asked for at once for a page: hydration takes them by hundreds anyway."""
AFTER_LAST_ID = "$"
"""Sorts just behind `#`: `SALE#2026-01-31$` lies behind every sale of that day and before the next day's."""

Asked = Callable[[SaleRecord], bool]


@dataclass(frozen=True, slots=True)
class Lane:
    """One partition of the table or of an index, in the order of days. `low` and `high` give a day's sort key bounds.

    `whole`: its items are complete and up to date (the table itself), so that they need not be read again.
    """

    index: str | None
    partition: str
    low: Callable[[date], str]
    high: Callable[[date], str]
    only: str | None = None
    whole: bool = False


@dataclass(slots=True)
class _Found:
    """Keys in order, and the items of those lanes that have them whole."""

    keys: list[SaleKey] = field(default_factory=list)
    items: dict[SaleKey, Item] = field(default_factory=dict)


class DynamoQueries(DynamoReading):
    """The four questions."""

    def category_season(
        self, context: CallerContext, category: str, season: Season, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return a category's sales of one season, over all shards."""
        checked("category", category, KeyPair(category_partition(context.tenant, category, 0), ""))
        bound = partial(season_sort_key, season)
        shards = range(self._shards.for_reading().category)
        lanes = [Lane("GSI1", category_partition(context.tenant, category, shard), bound, bound) for shard in shards]
        return self._page(context, lanes, period, page, lambda sale: (sale.category, sale.season) == (category, season))

    def embeddings(
        self, context: CallerContext, product_id: str | None, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return the sales with an embedding: a product's from the table itself, all products' from GSI2."""
        only = "attribute_exists(embeddingS3Key)"
        if product_id is not None:
            pair = checked("product_id", product_id, KeyPair(product_partition(context.tenant, product_id), ""))
            lanes = [Lane(None, pair.partition, _first_of, _last_of, only, whole=True)]
        else:
            lanes = self._days(context, only)
        return self._page(
            context,
            lanes,
            period,
            page,
            lambda sale: sale.embedding is not None and product_id in (None, sale.product_id),
        )

    def brand_prices(
        self, context: CallerContext, brand: str, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return a brand's sales."""
        pair = checked("brand", brand, KeyPair(brand_partition(context.tenant, brand), ""))
        lanes = [Lane("GSI3", pair.partition, day_sort_key, day_sort_key)]
        return self._page(context, lanes, period, page, lambda sale: sale.brand == brand)

    def of_day(self, context: CallerContext, day: date) -> tuple[HeldSale, ...]:
        """Return every sale of the day with its payload hash. Every sale is in GSI2, whatever it lacks."""
        sales = self._page(context, self._days(context, None), Period(day, day), ALL, lambda _sale: True).sales
        return tuple(sorted(HeldSale(sale.record.sale_id, sale.record.payload_hash) for sale in sales))

    def _days(self, context: CallerContext, only: str | None) -> list[Lane]:
        shards = range(self._shards.for_reading().embedding)
        return [
            Lane("GSI2", embedding_partition(context.tenant, shard), day_sort_key, day_sort_key, only)
            for shard in shards
        ]

    def _page(
        self, context: CallerContext, lanes: Sequence[Lane], period: Period, page: PageRequest, asked: Asked
    ) -> SalePage:
        """Return a page in the order of keys. One sale more than the limit is looked for: is there a next page?"""
        if page.after is not None and page.after.sold_date > period.last:
            return SalePage(())
        sales: list[StoredSale] = []
        after = page.after
        while True:
            wanted = None if page.limit is None else max(page.limit + 1 - len(sales), LEAST_READ_AHEAD)
            found = self._over(context, lanes, period, after, wanted)
            sales += self._hydrated(context, found, asked)
            if page.limit is None or wanted is None or len(found.keys) < wanted:
                break
            if len(sales) > page.limit:
                break
            after = found.keys[-1]
        shown = tuple(sales[: page.limit])
        return SalePage(shown, shown[-1].record.key if len(sales) > len(shown) else None)

    def _over(
        self, context: CallerContext, lanes: Sequence[Lane], period: Period, after: SaleKey | None, wanted: int | None
    ) -> _Found:
        """Return the first `wanted` keys behind `after` over all lanes: each lane gives as many, so none is missed."""
        parts = at_once(lambda lane: self._lane(context, lane, period, after, wanted), lanes)
        keys = sorted(key for part in parts for key in part.keys)[:wanted]
        return _Found(keys, {key: item for part in parts for key, item in part.items.items()})

    def _lane(
        self, context: CallerContext, lane: Lane, period: Period, after: SaleKey | None, wanted: int | None
    ) -> _Found:
        """Return a lane's keys behind `after`. A day is read whole: an index has an order of its own within it."""
        first = period.first if after is None else max(period.first, after.sold_date)
        found = _Found()
        for page in self._table.pages("query", **_query(lane, first, period.last, wanted)):
            for item in page["Items"]:
                key = _sale_key(item, context)
                if after is None or key > after:
                    found.keys.append(key)
                    if lane.whole:
                        found.items[key] = item
            if wanted is not None and len(found.keys) > wanted:
                complete = [key for key in found.keys if key.sold_date < found.keys[-1].sold_date]
                if len(complete) >= wanted:
                    found.keys = complete
                    break
        found.keys.sort()
        return found

    def _hydrated(self, context: CallerContext, found: _Found, asked: Asked) -> list[StoredSale]:
        missing = [key for key in found.keys if key not in found.items]
        items = self._items_of([key_of(sale_key_pair(context.tenant, key)) for key in missing])
        items += [found.items[key] for key in found.keys if key in found.items]
        now = self._table.clock.now()
        sales = (read_sale(item, context.tenant) for item in items if is_live(item, now))
        return sorted((sale for sale in sales if asked(sale.record)), key=lambda sale: sale.record.key)


def _query(lane: Lane, first: date, last: date, wanted: int | None) -> dict[str, Any]:
    names = (f"{lane.index}PK", f"{lane.index}SK") if lane.index else ("PK", "SK")
    asked: dict[str, Any] = {
        "KeyConditionExpression": f"{names[0]} = :partition AND {names[1]} BETWEEN :low AND :high",
        "ExpressionAttributeValues": {
            ":partition": {"S": lane.partition},
            ":low": {"S": lane.low(first)},
            ":high": {"S": lane.high(last)},
        },
    }
    asked |= {"IndexName": lane.index} if lane.index else {"ConsistentRead": True}
    asked |= {"FilterExpression": lane.only} if lane.only else {}
    return asked | ({"Limit": wanted + 1} if wanted is not None else {})


def _first_of(day: date) -> str:
    return f"SALE#{day.isoformat()}#"


def _last_of(day: date) -> str:
    return f"SALE#{day.isoformat()}{AFTER_LAST_ID}"


def _sale_key(item: Item, context: CallerContext) -> SaleKey:
    found = read_sale_key(KeyPair(item["PK"]["S"], item["SK"]["S"]))
    if found is None or found[0] != context.tenant:
        raise SaleUnreadable(f"item {item['PK']['S']} {item['SK']['S']}: not a sale of tenant {context.tenant}")
    return found[1]
