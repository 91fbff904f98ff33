"""The sales table's ports made from settings."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.sales.census import DynamoShardCensus
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.adapters.sales.ttl_items import DynamoTtlStore
from salesintel_dagster.domain.sales_repository import SalesRepository, ShardCensus
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.ttl_backfill import TtlStore
from salesintel_dagster.settings import Settings


def sales_repository(settings: Settings, clients: AwsClients) -> SalesRepository:
    """Return the door to the sales table."""
    return DynamoSalesRepository(clients.client("dynamodb"), settings.sales_table_name, _shards(settings))


def ttl_store(settings: Settings, clients: AwsClients) -> TtlStore:
    """Return the sales table as the TTL backfill sees it: all tenants' items."""
    return DynamoTtlStore(_table(settings, clients))


def shard_census(settings: Settings, clients: AwsClients) -> ShardCensus:
    """Return the count of sales in each shard."""
    table = _table(settings, clients)
    return DynamoShardCensus(table, StoredShardCounts(table, _shards(settings)))


def _table(settings: Settings, clients: AwsClients) -> DynamoTable:
    return DynamoTable(clients.client("dynamodb"), settings.sales_table_name)


def _shards(settings: Settings) -> ShardCounts:
    return ShardCounts(settings.sales_category_shards, settings.sales_embedding_shards)
