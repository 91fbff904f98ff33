"""The sales repository against bare boto3 calls of the same kind, and a category's question on tables of three sizes.

The emulator runs in its own process on the same machine; ratios are what travels to another one.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from salesintel_dagster.adapters.aws import AwsClient, AwsClients, AwsTarget
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.sales.items import guard_item, key_of, sale_item
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.calendar import Hemisphere, Season, season
from salesintel_dagster.domain.payload_hash import payload_hash
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import sale_key_pair
from salesintel_dagster.domain.sales_repository import PageRequest
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.local.emulator import Emulator
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Supervisor

CALLS = 400
ROUNDS = 5
SIZES = (1_000, 10_000, 50_000)
ACCOUNT = "123456789012"
REGION = "eu-west-1"
CALLER = CallerContext("acme")
DAY = date(2026, 11, 20)


def _record(number: int, category: str, day: date) -> SaleRecord:
    return SaleRecord(
        tenant="acme",
        sale_id=f"S-{number}",
        product_id=f"P-{number % 997}",
        category=category,
        brand="Ilmari",
        sold_price=Decimal(number % 900 + 1),
        currency="EUR",
        sold_at=datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        sold_date=day,
        season=season(day, Hemisphere.NORTH),
        source_system="carousel",
        payload_hash=payload_hash({"n": number}),
    )


@contextmanager
def _table() -> Iterator[tuple[AwsClient, str]]:
    """Start an emulator with the deployed table in it."""
    supervisor = Supervisor(on_event=lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-", ignore_cleanup_errors=True) as folder:
        emulator = Emulator(Path(folder) / "aws", free_port(), REGION, persistent=False)
        supervisor.start([emulator.child(Path(folder) / "emulator.log")], 60.0)
        try:
            target = AwsTarget(REGION, REGION, emulator.endpoint_url, None, ACCOUNT, ACCOUNT)
            clients = AwsClients(target)
            table = deploy(clients, "bench", lambda _line: None).resources["SalesIntelligenceTable"]
            yield clients.client("dynamodb"), table
        finally:
            supervisor.stop()


def _rate(call: Callable[[SaleRecord], object], records: list[SaleRecord], threads: int) -> float:
    began = time.perf_counter()
    if threads == 1:
        for record in records:
            call(record)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(call, records))
    return len(records) / (time.perf_counter() - began)


def _fresh(start: int) -> list[SaleRecord]:
    return [_record(start + n, "dress", DAY) for n in range(CALLS)]


def throughput(client: AwsClient, table: str) -> None:
    """Writes and reads a second with 1 and 16 threads, ours and bare, in turns."""
    sales = DynamoSalesRepository(client, table, ShardCounts())
    shards = ShardCounts()

    def bare_put(record: SaleRecord) -> None:
        sale = stored(record, 1)
        absent = {"TableName": table, "ConditionExpression": "attribute_not_exists(PK)"}
        items = (guard_item(sale), sale_item(sale, shards))
        client.transact_write_items(TransactItems=[{"Put": {"Item": item, **absent}} for item in items])

    def bare_get(record: SaleRecord) -> object:
        key = key_of(sale_key_pair(record.tenant, record.key))
        return client.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]

    calls: dict[str, tuple[Callable[[SaleRecord], object], Callable[[SaleRecord], object]]] = {
        "write: put, and a bare TransactWriteItems of two": (lambda one: sales.put(CALLER, one), bare_put),
        "read: get, and a bare GetItem": (lambda one: sales.get(CALLER, one.key), bare_get),
    }
    print("| call | threads | ours /s | bare /s | ratio |\n|---|---|---|---|---|", flush=True)
    number = 10**7
    for name, (ours, bare) in calls.items():
        for threads in (1, 16):
            pairs = []
            for turn in range(ROUNDS):
                rates = []
                for call in (ours, bare) if turn % 2 else (bare, ours):
                    records = _fresh(number) if name.startswith("write") else _fresh(10**7)
                    number += CALLS
                    rates.append(_rate(call, records, threads))
                pairs.append((rates[0], rates[1]) if turn % 2 else (rates[1], rates[0]))
            mine, theirs = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
            ratio = statistics.median(one / other for one, other in pairs)
            print(f"| {name} | {threads} | {mine:.0f} | {theirs:.0f} | {ratio:.2f} |", flush=True)


def questions(client: AwsClient, table: str) -> None:
    """A category's season: as large as the table, and 100 sales in a table that grows."""
    sales = DynamoSalesRepository(client, table, ShardCounts())
    few = [replace(_record(10**8 + n, "rare", DAY)) for n in range(100)]
    sales.put_many(CALLER, few)
    print("| sales in the category | loaded /s | all of it, ms | ms a 1,000 | first 50, ms | another's 100, ms |")
    print("|---|---|---|---|---|---|", flush=True)
    there = 0
    for size in SIZES:
        batch = [_record(10**6 + n, "dress", DAY - timedelta(days=n % 70)) for n in range(there, size)]
        began = time.perf_counter()
        sales.put_many(CALLER, batch)
        loaded = len(batch) / (time.perf_counter() - began)
        there = size
        whole, found = _timed(lambda: sales.category_season(CALLER, "dress", Season.AUTUMN))
        assert len(found.sales) == size, (len(found.sales), size)
        page, _ = _timed(lambda: sales.category_season(CALLER, "dress", Season.AUTUMN, page=PageRequest(50)))
        other, found = _timed(lambda: sales.category_season(CALLER, "rare", Season.AUTUMN))
        assert len(found.sales) == 100
        told = (size, f"{loaded:.0f}", whole * 1000, whole * 1e6 / size, page * 1000, other * 1000)
        print("| {} | {} | {:.0f} | {:.0f} | {:.0f} | {:.0f} |".format(*told), flush=True)


def _timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median of three, and the answer."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), answer


def sales() -> None:
    """Print both tables of docs/benchmarks.md."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    print("\n### The sales repository beside bare boto3 calls\n")
    with _table() as (client, table):
        throughput(client, table)
    print("\n### A category's season\n")
    with _table() as (client, table):
        questions(client, table)
