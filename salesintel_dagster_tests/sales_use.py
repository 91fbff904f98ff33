"""Everything that is ever done with the sales table, once: for the tests of its policy."""

from __future__ import annotations

import pytest

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.sales.census import DynamoShardCensus
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.adapters.sales.ttl_items import DynamoTtlStore
from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.ttl_backfill import Pace, backfill_ttl
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.sale_records import record


def use_everything(client: AwsClient, table_name: str) -> None:
    """Call every method of the repository, the census and the TTL backfill, on their rarer ways, too."""
    table = DynamoTable(client, table_name, SetClock().clock)
    caller, day = CallerContext("acme"), record().sold_date
    sales = DynamoSalesRepository(client, table.name, ShardCounts(), table.clock)
    sales.put_many(caller, [record("S-0")])
    client.meta.events.register_first("before-call.dynamodb.BatchWriteItem", die := _Second())
    with pytest.raises(KeyboardInterrupt):
        sales.put_many(caller, [record()])
    client.meta.events.unregister("before-call.dynamodb.BatchWriteItem", die)
    sales.put(caller, record())
    sales.withdraw(caller, record())
    sales.put(caller, record())
    sales.correct(caller, record(event_version=2, product_id="P-2"))
    sales.update(caller, "S-1", {"brand": "Tarn"}, 2)
    sales.category_season(caller, "dress", Season.AUTUMN)
    sales.embeddings(caller, "P-1")
    sales.embeddings(caller, None)
    sales.brand_prices(caller, "Tarn")
    sales.of_day(caller, day)
    sales.get_many(caller, [record().key])
    sales.delete(caller, "S-1")
    DynamoShardCensus(table, StoredShardCounts(table, ShardCounts())).sizes(caller, "dress")
    list(backfill_ttl(DynamoTtlStore(table), table.clock, Pace(page_items=1, items_per_second=5_000)))


class _Second:
    """Dies at its second call: between a batch's sales and their guards."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, **_: object) -> None:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
