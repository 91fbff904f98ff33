"""The daily export as a flow of the harness: emulated S3 and DynamoDB, Iceberg files; source, images, model scripted.

All calls of the export stand on the line: the source's reading, each image, each paid call, each object, the progress.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.object_store import S3ObjectStore
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.adapters.table_layout import NAMESPACE
from salesintel_dagster.domain.calendar import Hemisphere
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.backfill import Backfill, DayFailed
from salesintel_dagster.flows.export.concurrency import CallBudget
from salesintel_dagster.flows.export.day import ExportParts, ExportRules
from salesintel_dagster.flows.export.images import ImageLimits
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.vector_maker import EmbeddingLimits
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.embedder import ScriptedEmbedder
from salesintel_dagster_tests.fakes.export_parts import ALL_STAGES
from salesintel_dagster_tests.fakes.images import ScriptedImages, fetched
from salesintel_dagster_tests.fakes.source import InMemorySaleSource, sale_row
from salesintel_dagster_tests.harness.calls import Line

DAY = date(2026, 11, 3)
SALES = 3
PICTURES = 2
"""Two of the sales show the same picture at different addresses."""
CONCURRENCY = 1
ROUNDS = 3
BLOCKING = frozenset(promise.name for promise in promises(1024) if promise.blocking)
"""The checks that stand between stages; the others only read."""


@dataclass
class ExportWorld:
    """The stores of one case, its source and its model.

    `payers` are the runs that were under way at once: each looks once which vectors are there, then pays for the rest.
    """

    bucket: str
    progress: str
    table: str
    source: InMemorySaleSource
    images: ScriptedImages
    embedder: ScriptedEmbedder = field(default_factory=ScriptedEmbedder)
    payers: int = 1


@dataclass
class ExportFlow:
    """One day's export. `check` also counts what was paid for and what was stored."""

    aws: AwsClients
    catalog: Catalog
    line: Line = field(default_factory=Line)

    _numbers = itertools.count(1)

    def __post_init__(self) -> None:
        self.s3, self.dynamo = self.aws.client("s3"), self.aws.client("dynamodb", brief=True)
        for client in (self.s3, self.dynamo):
            self.line.watch_client(client)
        self.line.watch(self.catalog, "load_table", "commit_table")

    def world(self) -> ExportWorld:
        name = f"case-{next(self._numbers)}-{secrets.token_hex(4)}"
        region = {"LocationConstraint": self.aws.target.region}
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration=region)
        keys = {"PK": "HASH", "SK": "RANGE"}
        self.dynamo.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        )
        start = datetime.combine(DAY, time(9), UTC)
        rows = [sale_row(start + timedelta(minutes=n), n) for n in range(SALES)]
        pictures = {str(row["image_url"]): [fetched(n % PICTURES)] for n, row in enumerate(rows)}
        world = ExportWorld(name, name, name, InMemorySaleSource(rows), ScriptedImages(pictures))
        self.line.watch(world.source, "read")
        self.line.watch(world.images, "fetch")
        self.line.watch(world.embedder, "embed")
        return world

    def start(self, world: ExportWorld) -> None:
        self._run(world, "first")

    def second(self, world: ExportWorld) -> None:
        """Export the same day in another run, to its end."""
        world.payers = 2
        self._run(world, "second")

    def recover(self, world: ExportWorld) -> None:
        """Run the day again, as the next schedule or an operator does."""
        for number in range(ROUNDS):
            failed = self._run(world, f"later-{number}")
            if not failed:
                return
        raise AssertionError(f"the day fails for ever: {failed}")

    def check(self, world: ExportWorld) -> None:
        """A7, B16, C6, C10: exactly the source set, each picture stored once, each paid for once."""
        table = self.catalog.load_table((NAMESPACE, world.table))
        rows = table.scan().to_arrow().to_pylist()
        wanted = {str(row["sale_id"]): row["sold_price"] for row in world.source.rows}
        assert {row["sale_id"]: row["sold_price"] for row in rows} == wanted, "not the source set"
        assert len(rows) == len(wanted), f"doubled: {[row['sale_id'] for row in rows]}"
        without = [row["sale_id"] for row in rows if row["embedding_vector"] is None or row["image_s3_key"] is None]
        assert not without, f"no picture or vector: {without}"
        for snapshot in table.metadata.snapshots:
            ids = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("sale_id",)).to_arrow()["sale_id"]
            assert len(ids) == len(set(ids.to_pylist())), "doubled at a snapshot"
        stored = self.s3.list_objects_v2(Bucket=world.bucket, Prefix="images/").get("Contents", ())
        assert len(stored) == PICTURES, f"{len(stored)} objects for {PICTURES} pictures"
        paid = len(world.embedder.calls)
        assert paid <= PICTURES * world.payers + CONCURRENCY, f"paid {paid} times for {PICTURES} pictures"

    def _run(self, world: ExportWorld, run_id: str) -> list[DayFailed]:
        clock = held_clock()
        parts = ExportParts(
            world.source,
            world.images,
            world.embedder,
            S3ObjectStore(self.s3, world.bucket),
            IcebergSalesTable(lambda: self.catalog, clock, name=world.table),
        )
        retry = RetryPolicy()
        limits = EmbeddingLimits(CONCURRENCY, CallBudget(10_000), retry)
        rules = ExportRules(ImageLimits(CONCURRENCY, CONCURRENCY, retry), limits, Hemisphere.NORTH, 0.05, 0.5)
        ledger = DynamoProgressLedger(self.dynamo, world.progress)
        backfill = Backfill(parts, rules, ledger, ZoneInfo("UTC"), run_id, clock, lambda _line: None)
        steps: list[Any] = [step for _, step in backfill.run([DAY], ALL_STAGES, BLOCKING)]
        return [step for step in steps if isinstance(step, DayFailed)]
