"""The event sync on real stores (emulated AWS over HTTP, Iceberg files) as a flow of the harness."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.adapters.receipts import DynamoReceipts
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.table_layout import NAMESPACE
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity, parse_event
from salesintel_dagster.domain.sales_keys import KeyPair, read_sale_key
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.flows.sync.batch import MicroBatch
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, RULES, envelope, sold
from salesintel_dagster_tests.harness.calls import Line
from salesintel_dagster_tests.sales_table import make_table

SYNC_RULES = SyncRules(events=RULES, gather_seconds=0, idle_seconds=0, ledger_writers=1)
ROUNDS = 6
"""Drains after which the queue must be empty: one would do, errors that persist would never."""

MESSAGES = (
    envelope(sold("A"), "e-1"),
    envelope(sold("A"), "e-1"),
    envelope(sold(None, productId="B", soldAt="2026-11-05T00:00:00Z"), "e-2"),
    envelope(sold("C", tenantId=OTHER_TENANT, soldAt="2026-10-31T23:00:00Z"), "e-3"),
    "poison",
    envelope(sold("A", soldAt="2026-10-03T00:00:00Z"), "e-4"),
)
"""A sale twice, one known by its event, one of another tenant and month, poison, a contradiction in another month."""


def quick_clock() -> Clock:
    """The real calendar, and waits that cost nothing."""
    return replace(held_clock(), now=lambda: datetime.now(UTC))


@dataclass
class SyncWorld:
    """The stores of one case; `suffix` names its queues and tables."""

    suffix: str
    sent: tuple[str, ...]
    sales: str = ""
    handles: list[str] = field(default_factory=list)

    def name(self, what: str) -> str:
        return f"{what}-{self.suffix}"


Parts = Callable[[SyncParts], SyncParts]


@dataclass
class SyncFlow:
    """`batch` and `parts` put a variant of the flow in the place of the true one: the mutants."""

    aws: AwsClients
    catalog: Catalog
    messages: tuple[str, ...] = MESSAGES
    before: tuple[str, ...] = ()
    batch: type[MicroBatch] = MicroBatch
    parts: Parts = lambda parts: parts
    line: Line = field(default_factory=Line)

    _numbers = itertools.count(1)

    def __post_init__(self) -> None:
        self.sqs, self.dynamo = self.aws.client("sqs"), self.aws.client("dynamodb")
        self._world: SyncWorld | None = None
        self.line.received = self._received
        for client in (self.sqs, self.dynamo):
            self.line.watch_client(client)
        self.line.watch(self.catalog, "load_table", "commit_table")

    def world(self) -> SyncWorld:
        world = self._world = SyncWorld(f"{next(self._numbers)}-{id(self):x}", (*self.before, *self.messages))
        for queue in ("events", "quarantine"):
            self.sqs.create_queue(QueueName=world.name(queue))
        world.sales = make_table(self.dynamo)
        self.dynamo.create_table(
            TableName=world.name("receipts"),
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
        )
        if self.before:
            self.send(world, self.before)
            self.recover(world)
        self.send(world, self.messages)
        return world

    def start(self, world: SyncWorld) -> None:
        self._drain(world, "first", self.batch, self.parts)

    def second(self, world: SyncWorld) -> None:
        """Run another worker to completion, the first one's messages being visible again."""
        self._show_again(world)
        self._drain(world, "second", self.batch, self.parts)

    def recover(self, world: SyncWorld) -> None:
        for number in range(ROUNDS):
            self._show_again(world)
            try:
                self._drain(world, f"later-{number}", self.batch, self.parts)
            except Exception:
                if number == ROUNDS - 1:
                    raise
            if self.depth(world) == 0:
                return
        raise AssertionError(f"{self.depth(world)} messages are still in the queue")

    def check(self, world: SyncWorld) -> None:
        """F1: exactly once in both stores, queue empty, quarantine = poison and conflicts."""
        table, ledger = self.in_table(world), self.in_ledger(world)
        kept = self.in_quarantine(world)
        self._assert_unique_at_every_snapshot(world)
        assert table == ledger, "the stores differ"
        wanted: set[SaleIdentity] = set()
        stored: dict[SaleIdentity, int] = {}
        for body in world.sent:
            event = parse_event(body, RULES)
            if isinstance(event, Rejection):
                assert kept[body], f"lost: {body}"
                continue
            wanted.add(event.identity)
            there = table.get(event.identity)
            assert there is not None, f"lost: {event.identity}"
            self._assert_accounted(event, there, kept[body])
            if there == event.record.payload_hash:
                stored[event.identity] = event.record.event_version
        assert set(table) == wanted, "rows that nobody sent"
        assert set(stored) == wanted, "rows that hold no message's payload"

    def _assert_accounted(self, event: SaleEvent, there: str, kept: int) -> None:
        """A message is in the stores, or in quarantine, or a higher version of its sale is in the stores."""
        if there == event.record.payload_hash:
            assert not kept, f"stored and quarantined: {event.identity}"
        else:
            highest = max(
                one.record.event_version
                for one in (parse_event(body, RULES) for body in (*self.before, *self.messages))
                if isinstance(one, SaleEvent) and one.identity == event.identity
            )
            assert kept or event.record.event_version < highest, f"lost: {event.identity} {event.record.payload_hash}"

    def sync(
        self,
        world: SyncWorld,
        run_id: str,
        *,
        clock: Clock | None = None,
        visibility_seconds: int = SYNC_RULES.visibility_seconds,
    ) -> EventSync:
        """Return a worker as a process of its own would build it."""
        clock = clock or quick_clock()
        parts = SyncParts(
            SqsEventQueue(self.sqs, world.name("events"), visibility_seconds),
            SqsQuarantine(self.sqs, world.name("quarantine")),
            DynamoReceipts(self.dynamo, world.name("receipts"), clock),
            DynamoSalesRepository(self.dynamo, world.sales, ShardCounts(), clock),
            IcebergHistoryTable(lambda: self.catalog, clock, name=world.name("history")),
        )
        rules = replace(SYNC_RULES, visibility_seconds=visibility_seconds)
        return EventSync(parts, rules, clock, run_id, lambda _line: None)

    def in_table(self, world: SyncWorld) -> dict[SaleIdentity, str]:
        table = self.table(world)
        if table is None:
            return {}
        rows = table.scan(selected_fields=("tenant_id", "sale_id", "payload_hash")).to_arrow().to_pylist()
        found = Counter(SaleIdentity(row["tenant_id"], row["sale_id"]) for row in rows)
        assert set(found.values()) <= {1}, f"doubled in Iceberg: {found}"
        return {SaleIdentity(row["tenant_id"], row["sale_id"]): row["payload_hash"] for row in rows}

    def in_ledger(self, world: SyncWorld) -> dict[SaleIdentity, str]:
        items = self.dynamo.scan(TableName=world.sales, ConsistentRead=True)["Items"]
        sales = [(_identity(item), item["payloadHash"]["S"]) for item in items if _entity(item) == "SALE"]
        doubled = [identity for identity, count in Counter(identity for identity, _ in sales).items() if count > 1]
        assert not doubled, f"doubled in DynamoDB: {doubled}"
        guards = sum(_entity(item) == "GUARD" for item in items)
        assert guards == len(sales), "a sale without a guard, or a guard without a sale"
        return dict(sales)

    def in_quarantine(self, world: SyncWorld) -> Counter[str]:
        """Return the bodies that are in quarantine; after a crash one may be there twice."""
        url = self.sqs.get_queue_url(QueueName=world.name("quarantine"))["QueueUrl"]
        found: Counter[str] = Counter()
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found.update(message["Body"] for message in messages)
        return found

    def _drain(self, world: SyncWorld, run_id: str, batch: type[MicroBatch], parts: Parts) -> None:
        sync = self.sync(world, run_id)
        for _ in replace(sync, batch=batch, parts=parts(sync.parts)).drain():
            pass

    def table(self, world: SyncWorld) -> Any | None:  # noqa: ANN401 - pyiceberg's
        """Return the table; None where nothing was ever written."""
        try:
            return self.catalog.load_table((NAMESPACE, world.name("history")))
        except NoSuchTableError:
            return None

    def _assert_unique_at_every_snapshot(self, world: SyncWorld) -> None:
        table = self.table(world)
        for snapshot in table.metadata.snapshots if table is not None else ():
            rows = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("tenant_id", "sale_id")).to_arrow()
            keys = list(zip(rows["tenant_id"].to_pylist(), rows["sale_id"].to_pylist(), strict=True))
            assert len(keys) == len(set(keys)), f"doubled at a snapshot: {keys}"

    def send(self, world: SyncWorld, bodies: Sequence[str]) -> None:
        url = self.sqs.get_queue_url(QueueName=world.name("events"))["QueueUrl"]
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")

    def _show_again(self, world: SyncWorld) -> None:
        """End every visibility timeout, as time would."""
        url = self.sqs.get_queue_url(QueueName=world.name("events"))["QueueUrl"]
        handles, world.handles = world.handles, []
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for n, handle in enumerate(handles[start : start + 10])
            ]
            self.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)

    def depth(self, world: SyncWorld) -> int:
        return SqsEventQueue(self.sqs, world.name("events"), 1).depth().total

    def _received(self, name: str, parsed: Mapping[str, Any]) -> None:
        if name == "ReceiveMessage" and self._world is not None:
            self._world.handles += [message["ReceiptHandle"] for message in parsed.get("Messages", ())]


def _identity(item: Mapping[str, Any]) -> SaleIdentity:
    found = read_sale_key(KeyPair(item["PK"]["S"], item["SK"]["S"]))
    assert found is not None
    return SaleIdentity(found[0], found[1].sale_id)


def _entity(item: Mapping[str, Any]) -> str | None:
    """Return what the item is; None for the table's own settings."""
    entity: str | None = item.get("entity", {}).get("S")
    return entity
