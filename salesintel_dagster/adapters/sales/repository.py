"""The whole door to the sales table: `SalesRepository` on DynamoDB, put together from its parts."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.sales.loading import DynamoLoading
from salesintel_dagster.adapters.sales.querying import DynamoQueries
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import RETRY, DynamoTable
from salesintel_dagster.adapters.sales.writing import DynamoWriting
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sales_repository import SalesRepository
from salesintel_dagster.domain.shards import ShardCounts


class DynamoSalesRepository(DynamoWriting, DynamoLoading, DynamoQueries, SalesRepository):
    """Sales of every tenant in one table; thread-safe, as its boto3 client is."""

    def __init__(
        self,
        client: AwsClient,
        table_name: str,
        shards: ShardCounts,
        clock: Clock = SYSTEM_CLOCK,
        retry: RetryPolicy = RETRY,
    ) -> None:
        table = DynamoTable(client, table_name, clock, retry)
        super().__init__(table, StoredShardCounts(table, shards))
