"""I9: SyncPolicy allows what the sync's sensors, run, checks and repair call, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.heartbeat import Heartbeat
from salesintel_dagster.flows.sync.parts import SyncParts, SyncTally
from salesintel_dagster.flows.sync.reconcile import Reconciliation
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.event_checks import event_queue_watch
from salesintel_dagster.wiring.events import receipts, sync_parts, sync_rules
from salesintel_dagster.wiring.sales import sales_repository
from salesintel_dagster_tests.fakes.events import TENANT, envelope, sold
from salesintel_dagster_tests.harness.refusing import Refusing
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.sales_table import resource_properties

IN_IAM = {
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
OF_THE_TABLE = ("s3:", "glue:")
"""Made by pyiceberg and Arrow's own clients."""


class Recorded:
    """The calls by (IAM action, resource), as the clients make them."""

    def __init__(self, clients: AwsClients) -> None:
        self.calls: set[tuple[str, str]] = set()
        for service, brief in (("sqs", False), ("dynamodb", False), ("cloudwatch", True)):
            events = clients.client(service, brief=brief).meta.events
            events.register(f"provide-client-params.{service}", self._note)

    def _note(self, params: dict[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
        service, operation = model.service_model.service_name, model.name
        if operation == "TransactWriteItems":
            parts = [(kind, part["TableName"]) for item in params["TransactItems"] for kind, part in item.items()]
            self.calls |= {(f"dynamodb:{PARTS[kind]}", table) for kind, table in parts}
        elif "RequestItems" in params:
            self.calls |= {(f"dynamodb:{operation}", table) for table in params["RequestItems"]}
        else:
            action = f"{service}:{operation}"
            url = params.get("QueueUrl") or params.get("QueueName") or ""
            where = (
                params.get("TableName", "") + (f"/index/{params['IndexName']}" if "IndexName" in params else "")
                or url.rpartition("/")[2]
            )
            self.calls.add((IN_IAM.get(action, action), where or "*"))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with closing(local_catalog(tmp_path)) as opened:
        yield opened


def test_i9_the_sync_may_make_the_calls_that_it_makes_and_no_other(aws: AwsClients, catalog: Catalog):
    settings = Settings(stage=f"t{secrets.token_hex(4)}", event_gather_seconds=0, event_idle_seconds=0, tenant=TENANT)
    deploy(aws, settings.stage, lambda _line: None)
    recorded = Recorded(aws)
    _use_everything(settings, aws, catalog)
    allowed = _allowed(settings)
    assert (recorded.calls - allowed, allowed - recorded.calls) == (set(), set())


def _use_everything(settings: Settings, aws: AwsClients, catalog: Catalog) -> None:
    table = IcebergHistoryTable(lambda: catalog, SYSTEM_CLOCK)
    parts = replace(sync_parts(settings, aws), table=table)
    watch = event_queue_watch(settings, aws)
    sold_at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    bodies = [
        envelope(sold("A", soldAt=sold_at), "e-1"),
        envelope(sold("B", soldAt=sold_at), "e-2"),
        envelope(sold("C", soldAt=sold_at), "e-3"),
        "poison",
    ]
    _send(settings, bodies, quiet := AwsClients(aws.target))
    watch.look()
    parts.queue.depth()
    _drain(settings, parts)
    later = [sold("A", soldAt=sold_at, eventVersion=2, salePrice=3), sold("B", soldAt=sold_at, salePrice=1)]
    _send(settings, [envelope(one, f"e-1{n}") for n, one in enumerate(later)], quiet)
    _drain(settings, parts)
    _send(settings, [envelope(sold("D", soldAt=sold_at), "e-4")], quiet)
    _drain(settings, replace(parts, table=Refusing(table, ("D", 1))))
    _send(settings, [envelope(sold("E", soldAt=sold_at), "e-5")], quiet)
    with Heartbeat(parts.queue, 30, lambda _line: None) as heartbeat:
        heartbeat.hold(held := parts.queue.receive(10, 0))
        parts.queue.extend(held, 30)
        parts.queue.delete(held)
    _repair(settings, aws, table)


def _send(settings: Settings, bodies: list[str], clients: AwsClients) -> None:
    sqs = clients.client("sqs")
    url = sqs.get_queue_url(QueueName=settings.event_queue_name)["QueueUrl"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)


def _drain(settings: Settings, parts: SyncParts) -> None:
    sync = EventSync(parts, sync_rules(settings), SYSTEM_CLOCK, "run-1", lambda _line: None)
    assert sum(sync.drain(), SyncTally()).received


def _repair(settings: Settings, aws: AwsClients, table: IcebergHistoryTable) -> None:
    """Take a sale from the sales table by hand, and a row from the other side, and let both be given back."""
    dynamo = AwsClients(aws.target).client("dynamodb")
    for item in dynamo.scan(TableName=settings.sales_table_name)["Items"]:
        if "saleId" in item and item["saleId"]["S"] == "C":
            dynamo.delete_item(TableName=settings.sales_table_name, Key={name: item[name] for name in ("PK", "SK")})
    parts = (sales_repository(settings, aws), table, receipts(settings, aws))
    reconciliation = Reconciliation(*parts, SYSTEM_CLOCK, settle_seconds=0)
    today = datetime.now(UTC).date()
    for found in reconciliation.compare([settings.tenant], [today, today - timedelta(days=1)]):
        reconciliation.repair(found, "repair")


def _allowed(settings: Settings) -> set[tuple[str, str]]:
    """Return the policy's statements as (action, name)."""
    names = {
        "SoldEventQueue": settings.event_queue_name,
        "SoldEventDeadLetters": settings.event_dlq_name,
        "SoldEventQuarantine": settings.event_quarantine_name,
        "SalesIntelligenceTable": settings.sales_table_name,
        "IdempotencyTable": settings.receipts_table_name,
    }
    found = set()
    for statement in resource_properties("SyncPolicy")["PolicyDocument"]["Statement"]:
        targets, actions = statement["Resource"], statement["Action"]
        for target in targets if isinstance(targets, list) else [targets]:
            for action in actions if isinstance(actions, list) else [actions]:
                if not action.startswith(OF_THE_TABLE):
                    found.add((action, _named(target, names)))
    return found


def _named(target: str, names: dict[str, str]) -> str:
    if target == "*":
        return target
    [name] = [name for name in names if f"{name}.Arn" in target]
    return names[name] + target.partition(".Arn")[2].removeprefix("}")
