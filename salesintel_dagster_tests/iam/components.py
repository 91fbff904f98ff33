"""Each component of a deployment doing its whole work once, with one user's permissions.

A component is a function of that user. It raises where AWS refuses something that it cannot do without.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from botocore.exceptions import ConnectTimeoutError

from salesintel_dagster import wiring
from salesintel_dagster.adapters.object_store import MULTIPART_BYTES
from salesintel_dagster.adapters.sales.items import key_of
from salesintel_dagster.adapters.table_layout import (
    ENRICHMENT_TABLE,
    HISTORY_TABLE,
    NAMESPACE,
    SALES_TABLE,
    load_or_create,
)
from salesintel_dagster.domain.alerts import Alert
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import StoreUnavailable
from salesintel_dagster.domain.metrics import MEASURES, Metric
from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.domain.sales_keys import guard_key_pair
from salesintel_dagster.domain.upkeep import UpkeepRules
from salesintel_dagster.flows.enrichment.parts import EnrichmentParts
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.handlers import store_sale
from salesintel_dagster.local.world_environment import overlaid
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import enrichment as wired_enrichment
from salesintel_dagster.wiring import event_checks, metrics
from salesintel_dagster.wiring import events as wired_events
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.iam.cloud import Cloud, User
from salesintel_dagster_tests.sales_use import use_everything

DAY = "2026-11-20"
DAYS = f"2026-11-19..{DAY}"
ASKED_TABLE = "asked"


def export(user: User) -> None:
    """Two days' export with a picture and a row that is refused, twice, and what the person on call types after it."""
    with psycopg.connect(user.cloud.ward.dsn) as connection:
        connection.execute("DELETE FROM sales")
        for sale, price, day in (("S-0", 10, "2026-11-19"), ("S-1", 10, DAY), ("S-2", -1, DAY)):
            connection.execute(
                "INSERT INTO sales (sale_id, product_id, category, sold_price, currency, sold_at, image_url)"
                " VALUES (%s, 'P', 'dress', %s, 'EUR', %s, %s)",
                (sale, price, f"{day}T12:00:00Z", f"{user.cloud.images_url}/hat.jpg"),
            )
    user.types("materialise", DAYS)
    forget_soon(user.cloud, SALES_TABLE)
    user.types("materialise", DAYS)
    user.types("status", DAY)
    user.types("quarantine", "list", DAY)
    with user.acting() as settings:
        _lose_a_run(wiring.progress_ledger(settings, user.clients))
        for folder in ("staging", "quarantine"):
            _break_off_an_upload(user, folder)


def _lose_a_run(ledger: ProgressLedger) -> None:
    now = datetime.now(UTC)
    running = Progress(now.date(), "died", now, now, RunState.RUNNING, "stage")
    ledger.record(running)
    assert ledger.lose(running, now)
    assert [one.state for one in ledger.history(now.date())] == [RunState.LOST]


def _break_off_an_upload(user: User, prefix: str) -> None:
    """A file of many parts whose upload fails is given up at S3, too: its parts would be paid for."""

    def fail(**_: object) -> None:
        raise ConnectTimeoutError(endpoint_url="nowhere")

    clients, large = user.clients, user.cloud.ward.folder / "large"
    clients.client("s3").meta.events.register("before-parameter-build.s3.UploadPart", fail)
    with large.open("wb") as file:
        file.truncate(MULTIPART_BYTES)
    with pytest.raises(StoreUnavailable):
        wiring.object_store(user.settings, clients).put(f"{prefix}/large", large, "text/plain")


def forget_soon(cloud: Cloud, table: str) -> None:
    """Let the table keep one older version of its metadata, so that the next commits delete some."""
    with overlaid(cloud.ward.environment):
        catalog = wiring.open_tables_catalog(Settings.from_environment(cloud.ward.environment))
        with catalog.load_table((NAMESPACE, table)).transaction() as transaction:
            transaction.set_properties({"write.metadata.previous-versions-max": "1"})


def query(user: User) -> None:
    """A question to a table of its own: to find the others missing is the part of their writers."""
    with overlaid(user.cloud.ward.environment):
        load_or_create(wiring.open_tables_catalog(Settings.from_environment(user.cloud.ward.environment)), ASKED_TABLE)
    user.types("sql", "SELECT count(*) AS sales FROM pricing_intelligence.asked")


def maintenance(user: User) -> None:
    """Upkeep of every table that there is, as if a month later: compaction, expiry, removal."""
    later, rules = datetime.now(UTC) + timedelta(days=30), UpkeepRules(keep_snapshots=1)
    user.types("tables", "upkeep", "--apply")
    with user.acting() as settings:
        for keeper in wiring.table_keepers(settings):
            assert keeper.compact(rules, later)
            keeper.expire(rules, later)
            keeper.remove(rules, later)


def cloudwatch(user: User) -> None:
    """A metric of the export."""
    metrics.metric_sink(user.settings, user.clients).emit([Metric(MEASURES[0], 1, datetime.now(UTC))])


def alerts(user: User) -> None:
    """An alert to the topic."""
    alert = Alert("alert-1", Severity.WARN, "WARN something", "WARN something")
    wiring.alert_sinks(user.settings, user.clients)["sns"].send(alert)


def compute_logs(user: User) -> None:
    """What Dagster's S3 compute log manager does: write a step's logs, look for others, read them."""
    from dagster._core.storage.compute_log_manager import ComputeIOType  # noqa: PLC0415 - Dagster costs seconds
    from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION  # noqa: PLC0415 - same
    from dagster_aws.s3 import S3ComputeLogManager  # noqa: PLC0415 - same

    with user.acting() as settings:
        boto3.setup_default_session()  # it keeps the keys of whoever acted before
        manager = S3ComputeLogManager(
            bucket=settings.bucket_name,
            prefix="dagster/compute-logs",
            local_dir=str(user.cloud.ward.folder / secrets.token_hex(4)),
            endpoint_url=settings.aws_endpoint_url,
            region=settings.aws_region,
            skip_empty_files=False,
        )
        key = ["storage", "run-1", "compute_logs", "step"]
        for kind in (ComputeIOType.STDOUT, ComputeIOType.STDERR):
            local = Path(manager.local_manager.get_captured_local_path(key, IO_TYPE_EXTENSION[kind]))
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_text("a line")
            manager.upload_to_cloud_storage(key, kind)
            manager.download_from_cloud_storage(key, kind)
            assert manager.cloud_storage_has_logs(key, kind)
        assert manager.get_log_keys_for_log_key_prefix(key[:-1], ComputeIOType.STDERR) == [key]


def enrichment(user: User) -> None:
    """Two catalogs handed in, worked on, looked at and tried again, with a dead letter to take back."""
    _enrich(user, "first")
    forget_soon(user.cloud, ENRICHMENT_TABLE)
    name = _enrich(user, "second")
    with user.acting() as settings:
        ledger = wired_enrichment.enrichment_ledger(settings, user.clients)
        sweep(ledger, wired_enrichment.enrichment_queue(settings, user.clients), SYSTEM_CLOCK)
        dead = wired_enrichment.enrichment_dead_letters(settings, user.clients)
        assert dead.depth().total == 0
        [job] = ledger.jobs.of_catalog(settings.tenant, name)
        bodies = [one.body for one in ledger.batches.of_job(job)]
        wired_enrichment.enrichment_dead_letters(settings, user.cloud.ward.clients).send(bodies)
        dead.extend(dead.receive(10, 0), 0)
    user.types("enrich", "status", name)
    user.types("enrich", "list", "--user", "ann")
    user.types("enrich", "retry", name)


def _enrich(user: User, name: str) -> str:
    """Hand a catalog in, see that there is work as the sensor does, and do it; return its id."""
    lines = "".join(f"P-{n},B{n:09d}\n" for n in range(5))
    catalog, name = user.cloud.ward.folder / "catalog.csv", f"{name}-{user.key.lower()}"
    catalog.write_text(f"product_id,asin\n{lines}")
    user.types("enrich", "submit", str(catalog), "--catalog", name, "--user", "ann")
    with user.acting() as settings:
        parts = EnrichmentParts(
            wired_enrichment.enrichment_ledger(settings, user.clients),
            wired_enrichment.enrichment_queue(settings, user.clients),
            wired_enrichment.enrichment_provider(settings),
            wired_enrichment.enrichment_table(settings),
        )
        assert parts.queue.depth().total == 1
        parts.queue.extend(parts.queue.receive(1, 0), 0)  # as the worker does with a batch that has to wait
        worker = Worker(
            parts,
            wired_enrichment.work_limits(settings),
            run_id="run-1",
            new_token=lambda: secrets.token_hex(8),
            clock=SYSTEM_CLOCK,
            tell=lambda _line: None,
        )
        for _ in worker.drain(60, 0):
            pass
    return name


def sync(user: User) -> None:
    """Sold events into both stores, the same again, one that contradicts them, and poison."""
    with user.acting() as settings:
        root = user.cloud.ward.clients.client("sqs")
        url = root.get_queue_url(QueueName=settings.event_queue_name)["QueueUrl"]
        sale = f"S-{user.key}"
        parts = wired_events.sync_parts(settings, user.clients)
        rules = replace(wired_events.sync_rules(settings), gather_seconds=0, idle_seconds=0)
        moved = sold(sale, eventVersion=2, soldAt="2026-11-04T12:00:00Z")
        first, conflict = sold(sale), sold(sale, salePrice=1)
        for bodies in ((envelope(first, "e-1"), "poison"), (envelope(conflict, "e-2"),), (envelope(moved, "e-4"),)):
            for body in bodies:
                root.send_message(QueueUrl=url, MessageBody=body)
            assert parts.queue.depth().total == len(bodies)
            for _ in EventSync(parts, rules, SYSTEM_CLOCK, "run-1", lambda _line: None).drain():
                pass
            assert parts.queue.depth().total == 0
            forget_soon(user.cloud, HISTORY_TABLE)
        root.send_message(QueueUrl=url, MessageBody=envelope(sold(f"{sale}-2"), "e-3"))
        event_checks.event_queue_watch(settings, user.clients).look()
        parts.queue.extend(parts.queue.receive(1, 0), 0)
        for _ in EventSync(parts, rules, SYSTEM_CLOCK, "run-2", lambda _line: None).drain():
            pass
        event_checks.history_facts(settings).repeated()
    user.types("events", "reconcile", "2026-11-03")


def sales(user: User) -> None:
    """Every look-up, change and count of the sales table."""
    use_everything(user.clients.client("dynamodb"), user.cloud.ward.resources["SalesIntelligenceTable"])


def store_sales(user: User) -> None:
    """The function behind API Gateway: a sale, another payload under its id, and a sale that had lost its guard."""
    sale = {
        "saleId": f"S-{secrets.token_hex(4)}",
        "productId": "P-1",
        "soldPrice": "35.50",
        "currency": "EUR",
        "soldAt": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
        "category": "dress",
    }
    context = {"authorizer": {"jwt": {"claims": {"tenant": "acme"}}}}

    def answer(**changes: Any) -> object:  # noqa: ANN401 - any field
        event = {"version": "2.0", "requestContext": context, "body": json.dumps(sale | changes)}
        return store_sale.handle(event)["statusCode"]

    store_sale._handler.cache_clear()
    try:
        with user.acting():
            assert (answer(), answer(soldPrice="1")) == (201, 409)
            root = user.cloud.ward.clients.client("dynamodb")
            table = user.cloud.ward.resources["SalesIntelligenceTable"]
            root.delete_item(TableName=table, Key=key_of(guard_key_pair("acme", sale["saleId"])))
            assert answer() == 201
    finally:
        store_sale._handler.cache_clear()
