"""The event sync on a backlog: micro-batches, one event at a time, and the bare boto3 calls that such a backlog takes.

Events carry a vector, about 20 KB each, and are of two days. The emulator runs in its own process on the same machine;
ratios are what travels.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from salesintel_dagster.adapters.aws import AwsClient, AwsClients, AwsTarget
from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.adapters.receipts import DynamoReceipts
from salesintel_dagster.adapters.sales.items import guard_item, sale_item
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.sale_changes import stored
from salesintel_dagster.domain.sale_event import EVENT_SOURCE, EVENT_TYPE, EventRules, SaleEvent, parse_event
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules, SyncTally
from salesintel_dagster.local.emulator import Emulator
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.processes import Supervisor

BACKLOG = 10_000
ONE_AT_A_TIME = 200
REGION = "eu-west-1"
ACCOUNT = "123456789012"
STAGE = "bench"
TENANT = "carousel-labs"
RULES = EventRules(frozenset({TENANT}), "EUR", ZoneInfo("UTC"), "amazon.titan-embed-image-v1")
SYNC = SyncRules(RULES, gather_seconds=0, idle_seconds=0, deadline_seconds=3600)


def event(number: int) -> str:
    """Return the body of a message: an envelope with a sale and its vector."""
    vector = np.random.default_rng(number).standard_normal(1024)
    detail = {
        "saleId": f"S-{number}",
        "productId": f"P-{number % 997}",
        "tenantId": TENANT,
        "category": "dress",
        "brand": "Ilmari",
        "condition": "good",
        "salePrice": number % 900 + 1,
        "currency": "EUR",
        "soldAt": f"2026-11-{number % 2 + 1:02}T12:00:00Z",
        "embedding": vector.tolist(),
    }
    told = {"id": f"e-{number}", "source": EVENT_SOURCE, "detail-type": EVENT_TYPE, "detail": detail}
    return json.dumps({**told, "time": datetime.now(UTC).isoformat()})


@dataclass
class _Place:
    """An emulator with the deployed queues and tables, and a folder for the lake."""

    clients: AwsClients
    resources: dict[str, str]
    folder: Path

    def sync(self, name: str, rules: SyncRules) -> EventSync:
        sqs, dynamo = self.clients.client("sqs"), self.clients.client("dynamodb")
        lake = self.folder / name
        lake.mkdir()
        catalog = open_catalog(
            "sql", uri=f"sqlite:///{lake}/catalog.db", warehouse=f"file://{lake}/warehouse", access=StorageAccess()
        )
        parts = SyncParts(
            SqsEventQueue(sqs, f"carousel-sync-{STAGE}", rules.visibility_seconds),
            SqsQuarantine(sqs, f"carousel-sync-quarantine-{STAGE}"),
            DynamoReceipts(dynamo, f"bg-remover-{STAGE}-idempotency", SYSTEM_CLOCK),
            DynamoSalesRepository(dynamo, self.resources["SalesIntelligenceTable"], ShardCounts()),
            IcebergHistoryTable(lambda: catalog, SYSTEM_CLOCK),
        )
        return EventSync(parts, rules, SYSTEM_CLOCK, name, lambda _line: None)

    def send(self, numbers: range) -> None:
        sqs = self.clients.client("sqs")
        url = sqs.get_queue_url(QueueName=f"carousel-sync-{STAGE}")["QueueUrl"]
        for start in range(numbers.start, numbers.stop, 10):
            hand = range(start, min(start + 10, numbers.stop))
            entries = [{"Id": str(n), "MessageBody": event(n)} for n in hand]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)


@contextmanager
def _place() -> Iterator[_Place]:
    supervisor = Supervisor(on_event=lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="salesintel-bench-", ignore_cleanup_errors=True) as folder:
        emulator = Emulator(Path(folder) / "aws", free_port(), REGION, persistent=False)
        supervisor.start([emulator.child(Path(folder) / "emulator.log")], 60.0)
        try:
            clients = AwsClients(AwsTarget(REGION, REGION, emulator.endpoint_url, None, ACCOUNT, ACCOUNT))
            resources = dict(deploy(clients, STAGE, lambda _line: None).resources)
            yield _Place(clients, resources, Path(folder))
        finally:
            supervisor.stop()


def _received(sqs: AwsClient, url: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def _bare(place: _Place, numbers: range) -> SyncTally:
    """Make the AWS calls that micro-batches of 100 make, and nothing else: what no sync can do without."""
    sqs, dynamo = place.clients.client("sqs"), place.clients.client("dynamodb")
    url = sqs.get_queue_url(QueueName=f"carousel-sync-{STAGE}")["QueueUrl"]
    table, receipts = place.resources["SalesIntelligenceTable"], f"bg-remover-{STAGE}-idempotency"
    parsed = parse_event(event(numbers.start), RULES)
    assert isinstance(parsed, SaleEvent)
    done = 0
    while done < len(numbers):
        hands = [_received(sqs, url) for _ in range(10)]
        got = [message for hand in hands for message in hand]
        keys = [{"PK": {"S": f"bare-{numbers.start + done + n}"}} for n in range(len(got))]
        dynamo.batch_get_item(RequestItems={receipts: {"Keys": keys, "ConsistentRead": True}})
        for n in range(len(got)):
            sale = stored(replace(parsed.record, sale_id=f"bare-{numbers.start + done + n}"), 1)
            items = (guard_item(sale), sale_item(sale, ShardCounts()))
            dynamo.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": item}} for item in items])
        for start in range(0, len(keys), 25):
            puts: list[dict[str, Any]] = [
                {"PutRequest": {"Item": {**key, "ttl": {"N": "1"}}}} for key in keys[start : start + 25]
            ]
            dynamo.batch_write_item(RequestItems={receipts: puts})
        for hand in hands:
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(hand)]
            if entries:
                sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        done += len(got)
    return SyncTally(received=done, written=done)


def _row(name: str, numbers: range, work: Callable[[], SyncTally]) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    tally = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert tally.written == len(numbers), tally
    rate = len(numbers) / wall
    hundred = cpu / len(numbers) * 100
    print(f"| {name} | {len(numbers)} | {rate:.1f} | {hundred:.2f} | {tally.commits} | {peak:.0f} |", flush=True)
    return rate


def events(backlog: int = BACKLOG) -> None:
    """A backlog in micro-batches beside the same events one at a time and beside bare calls."""
    print("\n### Event sync: a backlog of events of 20 KB\n", flush=True)
    print("| run | events | events/s | CPU-s per 100 | commits | peak MB |\n|---|---|---|---|---|---|", flush=True)
    first = 0

    def fresh(count: int) -> range:
        nonlocal first
        first += count
        return range(first - count, first)

    with _place() as place:

        def drained(name: str, rules: SyncRules) -> Callable[[], SyncTally]:
            return lambda: sum(place.sync(name, rules).drain(), SyncTally())

        rates = []
        for name, count, rules in (
            ("one event at a time", min(ONE_AT_A_TIME, backlog), replace(SYNC, batch_messages=1, ledger_writers=1)),
            ("micro-batches of 100, a tenth", backlog // 10, SYNC),
            ("micro-batches of 100", backlog, SYNC),
        ):
            numbers = fresh(count)
            place.send(numbers)
            rates.append(_row(name, numbers, drained(name.replace(" ", "-").replace(",", ""), rules)))
        numbers = fresh(backlog // 10)
        place.send(numbers)
        _row("bare boto3 calls, one thread", numbers, lambda: _bare(place, numbers))
        print(
            f"\nMicro-batches take {rates[2] / rates[0]:.1f} times as many events a second as one at a time.",
            flush=True,
        )
