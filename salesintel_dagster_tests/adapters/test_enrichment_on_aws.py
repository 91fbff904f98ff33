"""The whole enrichment on SQS and DynamoDB (emulated), real Iceberg files and the provider's stand-in over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import yaml
from botocore.exceptions import EndpointConnectionError

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.adapters.table_layout import ENRICHMENT_TABLE, NAMESPACE
from salesintel_dagster.domain.errors import LedgerUnavailable, TableUnavailable
from salesintel_dagster.flows.enrichment.checks import of_queues
from salesintel_dagster.flows.enrichment.retry import retry
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster_tests.harness.calls import Call, Interference
from salesintel_dagster_tests.harness.enrichment_flow import TENANT, EnrichmentFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in
from salesintel_dagster_tests.services import Services

PRODUCTS = 10


@pytest.fixture(scope="module")
def cloud(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrichmentFlow]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog, stand_in("keepa_server") as url:
        yield EnrichmentFlow(AwsClients(services.aws.new_target()), catalog, url, products=PRODUCTS)


@pytest.fixture
def world(cloud: EnrichmentFlow) -> str:
    call_json("POST", f"{cloud.provider_url}/reset")
    return cloud.world()


def test_a_catalog_goes_through_and_the_queue_is_empty(cloud: EnrichmentFlow, world: str):
    submitted = cloud.submit(world)
    assert (submitted.job.batches, submitted.unsent) == (2, 0)
    cloud.work("run-1")
    cloud.check(world)
    assert set(cloud.keepa.paid.values()) == {1}
    assert cloud.queue.depth().total == 0
    assert sweep(cloud.ledger, cloud.queue, cloud.clock).closed == 1
    assert cloud.submit(world).is_new is False
    level = cloud.ledger.tokens.last("local-keepa")
    assert level is not None
    assert level.refill_per_minute == 1200


def test_f15_messages_that_sqs_did_not_delete_come_again_and_nothing_is_done_twice(cloud: EnrichmentFlow, world: str):
    cloud.submit(world)
    refused: list[int] = []

    def refuse(parsed: dict[str, Any], **_: object) -> None:
        done, parsed["Successful"] = parsed.get("Successful", []), []
        refused.extend(range(len(done)))
        parsed["Failed"] = [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in done]

    events = cloud.aws.client("sqs").meta.events
    events.register("after-call.sqs.DeleteMessageBatch", refuse)
    cloud.work("run-1")
    events.unregister("after-call.sqs.DeleteMessageBatch", refuse)
    assert len(refused) == 2
    snapshots = len(cloud.catalog.load_table((NAMESPACE, ENRICHMENT_TABLE)).metadata.snapshots)
    cloud.queue.send([one.body for one in cloud.ledger.batches.of_job(cloud.job(world))])
    with cloud.line.run(Interference()):
        cloud.work("run-2")
    assert not {"dynamodb.UpdateItem", "_exchange", "commit_table"} & set(cloud.line.trace)
    assert cloud.queue.depth().total == 0
    assert sum(cloud.keepa.paid.values()) == PRODUCTS
    assert len(cloud.catalog.load_table((NAMESPACE, ENRICHMENT_TABLE)).metadata.snapshots) == snapshots


def test_f16_what_cannot_be_kept_in_the_ledger_is_not_deleted_from_the_queue(cloud: EnrichmentFlow, world: str):
    """Enrichment has no quarantine queue: its ledger keeps the reasons. While that is down no message is deleted."""
    cloud.submit(world)

    class LedgerGone(Interference):
        """From the commit on, nothing can be written to the ledger."""

        def before(self, call: Call) -> None:
            if call.name == "dynamodb.UpdateItem" and "commit_table" in cloud.line.trace:
                raise EndpointConnectionError(endpoint_url="http://gone")

    with cloud.line.run(LedgerGone()), pytest.raises(LedgerUnavailable):
        cloud.work("run-1")
    assert "sqs.DeleteMessageBatch" not in cloud.line.trace
    assert cloud.queue.depth().in_flight == 2
    cloud.redeliver(world)
    cloud.work("run-1")
    assert cloud.states(world) == {"DONE": PRODUCTS}
    assert sum(cloud.keepa.paid.values()) == PRODUCTS, "the table is asked before the provider is"


def test_h3_while_the_catalog_is_down_what_was_paid_for_waits_in_the_ledger(cloud: EnrichmentFlow, world: str):
    cloud.submit(world)

    class CatalogGone(Interference):
        """Nothing is committed."""

        def before(self, call: Call) -> None:
            if call.name == "commit_table":
                raise ConnectionError("gone")

    for number in range(6):
        with cloud.line.run(CatalogGone()), pytest.raises(TableUnavailable):
            cloud.work(f"down-{number}")
        assert cloud.states(world) == {"RETRY": PRODUCTS}
        cloud.redeliver(world)
    cloud.work("up")
    cloud.check(world)
    assert set(cloud.keepa.paid.values()) == {1}
    [batch, _] = cloud.ledger.batches.of_job(cloud.job(world))
    assert cloud.ledger.paid.of(batch.key).num_rows == 0
    rows = cloud.table.held(TENANT, [product.product_id for product in batch.products], ("run_id", "title"))
    assert set(rows["run_id"].to_pylist()) == {"down-0"}
    assert all(rows["title"].to_pylist())


def test_f17_a_message_received_too_often_is_a_dead_letter_is_told_and_comes_back(cloud: EnrichmentFlow, world: str):
    submitted = cloud.submit(world)
    for _ in range(10):
        messages = cloud.queue.receive(10, 0)
        cloud.queue.extend(messages, 0)
    assert [message.receive_count for message in messages] == [10, 10]
    assert cloud.queue.receive(10, 0) == []
    _, dead = of_queues(cloud.queue.depth(), cloud.dead.depth())
    assert (dead.passed, dead.found) == (False, "2 messages")
    [done] = retry([submitted.job], cloud.ledger, cloud.queue, cloud.dead, cloud.clock)
    assert (done.batches, done.dead_letters, done.unsent) == (2, 2, 0)
    assert cloud.dead.depth().total == 0
    cloud.work("run-1")
    assert cloud.states(world) == {"DONE": PRODUCTS}


def test_h6_without_tokens_batches_wait_in_the_queue_and_nothing_is_paid(cloud: EnrichmentFlow, world: str):
    call_json("POST", f"{cloud.provider_url}/reset", {"tokens": -1000})
    cloud.submit(world)
    cloud.work("run-1")
    assert cloud.states(world) == {"RETRY": PRODUCTS}
    assert not cloud.keepa.paid
    assert cloud.queue.depth().in_flight == 2
    call_json("POST", f"{cloud.provider_url}/reset")
    cloud.redeliver(world)
    cloud.shift += timedelta(hours=1)
    cloud.work("run-1")
    assert cloud.states(world) == {"DONE": PRODUCTS}


IAM = {
    "dynamodb": {"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query"},
    "sqs": {
        "GetQueueUrl": "GetQueueUrl",
        "GetQueueAttributes": "GetQueueAttributes",
        "SendMessageBatch": "SendMessage",
        "ReceiveMessage": "ReceiveMessage",
        "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
        "DeleteMessageBatch": "DeleteMessage",
    },
}


def _allowed() -> set[str]:
    class Loader(yaml.SafeLoader):
        """YAML with CloudFormation's short functions read as their arguments."""

    def argument(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> object:
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        assert isinstance(node, yaml.SequenceNode)
        return loader.construct_sequence(node, deep=True)

    Loader.add_multi_constructor("!", argument)
    parsed = yaml.load(template(), Loader)  # noqa: S506 - a SafeLoader underneath
    statements = parsed["Resources"]["EnrichmentPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    for statement in statements:
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(one != "*" for one in resources), statement["Sid"]
    actions = (statement["Action"] for statement in statements)
    return {one for action in actions for one in (action if isinstance(action, list) else [action])}


def test_i9_the_policy_allows_what_enrichment_calls_and_hardly_another(cloud: EnrichmentFlow, world: str):
    cloud.queue._queue._url = cloud.dead._queue._url = None  # type: ignore[attr-defined]
    with cloud.line.run(Interference()):
        submitted = cloud.submit(world)
        cloud.work("run-1")
        sweep(cloud.ledger, cloud.queue, cloud.clock)
        cloud.queue.depth()
        cloud.ledger.jobs.of_user(TENANT, "ann")
        retry([submitted.job], cloud.ledger, cloud.queue, cloud.dead, cloud.clock)
        cloud.dead.send(["a dead letter"])
        letters = cloud.dead.receive(10, 0)
        cloud.dead.extend(letters, 60)
        cloud.dead.delete(letters)
    called = {tuple(name.split(".")) for name in cloud.line.trace if "." in name}
    needed = {
        f"{service}:{IAM['sqs'][operation] if service == 'sqs' else operation}"  # type: ignore[index]
        for service, operation in called
    }
    ours = {action for action in _allowed() if action.startswith(("sqs:", "dynamodb:"))}
    assert needed == ours
