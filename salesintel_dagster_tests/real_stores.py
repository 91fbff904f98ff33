"""Both stores of a sale for tests: the sales table on the emulator and `sales_history` in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pyiceberg.expressions import EqualTo

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.keyed_table import KeyedTable
from salesintel_dagster.domain.sales_repository import SalesRepository
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.sales_table import make_table

RealStores = tuple[SalesRepository, KeyedTable, Callable[[str], object]]


@contextmanager
def real_stores(aws: AwsClients, folder: Path) -> Iterator[RealStores]:
    """Yield the two and a hand that deletes a row of `sales_history`."""
    client = aws.client("dynamodb")
    ledger = DynamoSalesRepository(client, make_table(client), ShardCounts(), held_clock())
    with closing(local_catalog(folder)) as catalog:

        def delete(sale_id: str) -> None:
            catalog.load_table((NAMESPACE, HISTORY_TABLE)).delete(EqualTo("sale_id", sale_id))

        yield ledger, IcebergHistoryTable(lambda: catalog, held_clock()), delete
