"""The sales repository against bare boto3 calls of the same kind, and a category's question on tables of three sizes.

The emulator runs in its own process on the same machine; ratios are what travels to another one.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
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
from salesintel_dagster.domain.sales_repository import ALL, PageRequest
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.local.emulator import Emulator
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Supervisor

BLOCKS = {1: (1, 500), 16: (80, 25)}
"""Threads: calls in a block, and blocks of ours and of the bare calls, in turns: other load meets both alike.

In blocks of 400 calls, at load 14, one thread's put seemed to run at 0.69 of the bare call; call by call it is 0.99.
"""
FIRST = 10**7
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


@dataclass(frozen=True)
class _Spent:
    """What a number of calls cost: seconds by the clock and of this process's CPU, per call."""

    wall: float
    cpu: float


def _spent(call: Callable[[SaleRecord], object], records: list[SaleRecord], threads: int) -> _Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    if threads == 1:
        for record in records:
            call(record)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(call, records))
    return _Spent((time.perf_counter() - wall) / len(records), (time.process_time() - cpu) / len(records))


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
    print("| call | threads | ours /s | bare /s | ratio | CPU ratio |\n|---|---|---|---|---|---|", flush=True)
    numbers = count(FIRST)
    for name, pair in calls.items():
        for threads, (size, blocks) in BLOCKS.items():
            if name.startswith("read"):
                numbers = count(FIRST)  # what was written first
            rounds = []
            for turn in range(blocks):
                spent: dict[int, _Spent] = {}
                for which in (0, 1) if turn % 2 else (1, 0):
                    records = [_record(number, "dress", DAY) for number in islice(numbers, size)]
                    spent[which] = _spent(pair[which], records, threads)
                rounds.append((spent[0], spent[1]))
            rates = [1 / statistics.median(one[n].wall for one in rounds) for n in (0, 1)]
            ratio = statistics.median(bare.wall / ours.wall for ours, bare in rounds)
            cpu = statistics.median(bare.cpu / ours.cpu for ours, bare in rounds)
            print(f"| {name} | {threads} | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.2f} | {cpu:.2f} |", flush=True)


@contextmanager
def _counted(client: AwsClient) -> Iterator[Counter[str]]:
    """Count the calls made meanwhile, and the items that queries read for them."""
    seen: Counter[str] = Counter()

    def see(parsed: dict[str, Any], **_: object) -> None:
        seen["calls"] += 1
        seen["items"] += parsed.get("ScannedCount", 0)

    client.meta.events.register("after-call.dynamodb", see)
    try:
        yield seen
    finally:
        client.meta.events.unregister("after-call.dynamodb", see)


def questions(client: AwsClient, table: str) -> None:
    """A category's season: as large as the table, and 100 sales in a table that grows."""
    sales = DynamoSalesRepository(client, table, ShardCounts())
    sales.put_many(CALLER, [_record(10**8 + n, "rare", DAY) for n in range(100)])
    print("| in the category | loaded /s | all: ms a 1,000, calls | 50: ms, calls, keys | another's 100: ms, calls |")
    print("|---|---|---|---|---|", flush=True)
    there = 0
    for size in SIZES:
        batch = [_record(10**6 + n, "dress", DAY - timedelta(days=n % 70)) for n in range(there, size)]
        began = time.perf_counter()
        sales.put_many(CALLER, batch)
        loaded = len(batch) / (time.perf_counter() - began)
        there = size
        cells = []
        for category, page, expected in (("dress", ALL, size), ("dress", PageRequest(50), 50), ("rare", ALL, 100)):
            with _counted(client) as seen:
                began = time.perf_counter()
                found = sales.category_season(CALLER, category, Season.AUTUMN, page=page).sales
                seconds = time.perf_counter() - began
            assert len(found) == expected, (len(found), expected)
            per = 1000 * seconds / size * 1000 if page is ALL and category == "dress" else 1000 * seconds
            keys = f", {seen['items']}" if page is not ALL else ""
            cells.append(f"{per:.0f}, {seen['calls']}{keys}")
        print(f"| {size} | {loaded:.0f} | {' | '.join(cells)} |", flush=True)


def sales() -> None:
    """Print both tables of docs/benchmarks.md."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    print("\n### The sales repository beside bare boto3 calls\n")
    with _table() as (client, table):
        throughput(client, table)
    print("\n### A category's season\n")
    with _table() as (client, table):
        questions(client, table)
