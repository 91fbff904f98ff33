"""How many sales lie in each shard of an index, counted by DynamoDB: nothing but numbers comes over the wire."""

from __future__ import annotations

from salesintel_dagster.adapters.sales.reading import at_once
from salesintel_dagster.adapters.sales.shard_counts import StoredShardCounts
from salesintel_dagster.adapters.sales.table import DynamoTable
from salesintel_dagster.domain.sales_keys import category_partition, embedding_partition
from salesintel_dagster.domain.sales_repository import ShardCensus
from salesintel_dagster.domain.tenancy import CallerContext


class DynamoShardCensus(ShardCensus):
    """The census. Expired sales that DynamoDB has not deleted yet are counted, too."""

    def __init__(self, table: DynamoTable, shards: StoredShardCounts) -> None:
        self._table = table
        self._shards = shards

    def sizes(self, context: CallerContext, category: str | None) -> tuple[int, ...]:
        """Return how many sales lie in each shard. Raises SalesUnavailable."""
        counts = self._shards.for_reading()
        if category is None:
            index, partitions = "GSI2", [embedding_partition(context.tenant, n) for n in range(counts.embedding)]
        else:
            index = "GSI1"
            partitions = [category_partition(context.tenant, category, n) for n in range(counts.category)]
        return tuple(at_once(lambda partition: self._size(index, partition), partitions))

    def _size(self, index: str, partition: str) -> int:
        pages = self._table.pages(
            "query",
            IndexName=index,
            Select="COUNT",
            KeyConditionExpression=f"{index}PK = :partition",
            ExpressionAttributeValues={":partition": {"S": partition}},
        )
        return sum(page["Count"] for page in pages)
