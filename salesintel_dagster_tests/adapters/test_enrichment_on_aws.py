"""The whole enrichment on SQS and DynamoDB (emulated), real Iceberg files and the provider's stand-in over HTTP."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.enrichment_ledger import (
    DynamoEnrichmentBatches,
    DynamoEnrichmentJobs,
    DynamoTokenLevels,
    DynamoUnfinishedJobs,
    StatusTable,
)
from salesintel_dagster.adapters.enrichment_queue import SqsBatchQueue
from salesintel_dagster.adapters.enrichment_table import IcebergEnrichmentTable
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.adapters.keepa import KeepaProvider
from salesintel_dagster.adapters.table_layout import ENRICHMENT_TABLE, NAMESPACE
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.enrichment.batch import counts
from salesintel_dagster.domain.enrichment.facts import Answer, LookUp
from salesintel_dagster.domain.enrichment.ports import EnrichmentProvider
from salesintel_dagster.domain.enrichment.product import CatalogProduct, CatalogRead, LookUpKey, LookUpKind
from salesintel_dagster.flows.enrichment.checks import of_queues
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger, EnrichmentParts, WorkLimits
from salesintel_dagster.flows.enrichment.retry import retry
from salesintel_dagster.flows.enrichment.submit import Submission, Submitted, submit
from salesintel_dagster.flows.enrichment.sweep import sweep
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster_tests.fakes.wire import Crash
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.local.stand_ins import call_json, stand_in
from salesintel_dagster_tests.services import Services

PRODUCTS, SIZE = 10, 5
TENANT = "carousel-labs"


class Heard(EnrichmentProvider):
    """The real provider, with a point before each request and the count of what was paid."""

    def __init__(self, inner: EnrichmentProvider, point: Callable[[str], None]) -> None:
        self._inner = inner
        self._point = point
        self.paid: list[str] = []

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def max_per_request(self) -> int:
        return self._inner.max_per_request

    def look_up(self, request: LookUp) -> Answer:
        self._point("provider look_up")
        answer = self._inner.look_up(request)
        self.paid += request.identifiers
        return answer


@dataclass
class Cloud:
    """One deployed stage, whose every remote call can be stopped at; `act(n, name)` happens before call n."""

    aws: AwsClients
    stage: str
    catalog: Catalog
    provider_url: str

    def __post_init__(self) -> None:
        self.report = deploy(self.aws, self.stage, lambda _line: None)
        self.calls: list[str] = []
        self.act: Callable[[int, str], None] = lambda _n, _name: None
        self.shift = timedelta()
        self.names = itertools.count(1)
        for service in ("dynamodb", "sqs"):
            self.aws.client(service).meta.events.register(f"before-call.{service}", self._before_call)
        commit = self.catalog.commit_table

        def heard(*words: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on
            self.point("iceberg commit_table")
            return commit(*words, **named)

        self.catalog.commit_table = heard  # type: ignore[method-assign]
        table = StatusTable(self.aws.client("dynamodb"), f"{self.stage}-enrichment-status")
        self.ledger = EnrichmentLedger(
            DynamoEnrichmentJobs(table),
            DynamoUnfinishedJobs(table),
            DynamoEnrichmentBatches(table),
            DynamoTokenLevels(table),
        )
        self.queue = SqsBatchQueue(self.aws.client("sqs"), f"product-enrichment-{self.stage}", 300)
        self.dead = SqsBatchQueue(self.aws.client("sqs"), f"product-enrichment-dlq-{self.stage}", 300)
        keepa = KeepaProvider(url=self.provider_url, key="canary-key", domain=3, max_per_request=4)
        self.provider = Heard(keepa, self.point)
        self.table = IcebergEnrichmentTable(lambda: self.catalog, SYSTEM_CLOCK)

    def _before_call(self, model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
        self.point(f"{model.service_model.service_name} {model.name}")

    def point(self, name: str) -> None:
        self.calls.append(name)
        self.act(len(self.calls), name)

    @property
    def clock(self) -> Clock:
        return replace(SYSTEM_CLOCK, now=lambda: SYSTEM_CLOCK.now() + self.shift)

    def submit(self, catalog_id: str, products: int = PRODUCTS) -> Submitted:
        named = tuple(
            CatalogProduct(f"{catalog_id}-{n}", LookUpKey(LookUpKind.ASIN, f"B{catalog_id[1:]:0>5}{n:04d}"))
            for n in range(products)
        )
        asked = Submission(TENANT, catalog_id, "ann", CatalogRead(named, ()), SIZE)
        return submit(asked, self.ledger, self.queue, self.clock)

    def work(self) -> None:
        parts = EnrichmentParts(self.ledger, self.queue, self.provider, self.table)
        worker = Worker(
            parts,
            WorkLimits(concurrency=1),
            run_id="run-1",
            new_token=lambda: secrets.token_hex(8),
            clock=self.clock,
            tell=lambda _line: None,
        )
        for _ in worker.drain(60, 0):
            pass

    def both(self, catalog_id: str) -> None:
        self.submit(catalog_id)
        self.work()

    def redeliver(self) -> None:
        """Let the leases end and the messages be seen again, as time would."""
        self.shift += timedelta(seconds=301)
        self.aws.client("sqs").purge_queue(QueueUrl=self.queue._queue.url)
        for opened in self.ledger.unfinished.all():
            self.queue.send([one.body for one in self.ledger.batches.of_job(opened.job) if not one.is_final])

    def states(self, catalog_id: str) -> dict[str, int]:
        [job] = self.ledger.jobs.of_catalog(TENANT, catalog_id)
        return dict(counts(self.ledger.batches.of_job(job)))

    def rows(self, catalog_id: str) -> int:
        found = self.table.held(TENANT, [f"{catalog_id}-{n}" for n in range(PRODUCTS)], ("product_id",))
        assert len(set(found["product_id"].to_pylist())) == found.num_rows
        return found.num_rows


@pytest.fixture(scope="module")
def cloud(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    catalog = local_catalog(tmp_path_factory.mktemp("lake"))
    with stand_in("keepa_server") as url:
        yield Cloud(AwsClients(services.aws.new_target()), f"t{secrets.token_hex(4)}", catalog, url)
    catalog.close()


@pytest.fixture(autouse=True)
def fresh(cloud: Cloud) -> None:
    cloud.act = lambda _n, _name: None
    cloud.calls.clear()
    cloud.provider.paid.clear()
    call_json("POST", f"{cloud.provider_url}/reset")


def new_catalog(cloud: Cloud) -> str:
    return f"c{next(cloud.names)}"


def test_a_catalog_goes_through_and_the_queue_is_empty(cloud: Cloud):
    catalog_id = new_catalog(cloud)
    submitted = cloud.submit(catalog_id)
    assert (submitted.job.batches, submitted.unsent) == (2, 0)
    cloud.work()
    assert cloud.states(catalog_id) == {"DONE": PRODUCTS}
    assert cloud.rows(catalog_id) == PRODUCTS
    assert len(cloud.provider.paid) == len(set(cloud.provider.paid)) == PRODUCTS
    assert cloud.queue.depth().total == 0
    assert sweep(cloud.ledger, cloud.queue, cloud.clock).closed == 1
    assert cloud.submit(catalog_id).is_new is False
    level = cloud.ledger.tokens.last("local-keepa")
    assert level is not None
    assert level.refill_per_minute == 1200


@pytest.mark.slow
def test_h3_h10_a_crash_before_every_call_costs_at_most_the_request_in_flight(cloud: Cloud):
    """Before call n is after call n - 1: with the crash after the last one, these are all the crashes there are."""
    first = new_catalog(cloud)
    cloud.submit(first)
    cloud.work()
    calls = list(cloud.calls)
    assert {name.split()[0] for name in calls} == {"dynamodb", "sqs", "iceberg", "provider"}
    for number in range(1, len(calls) + 1):
        catalog_id = new_catalog(cloud)
        cloud.calls.clear()
        cloud.provider.paid.clear()

        def crash(n: int, _name: str, number: int = number) -> None:
            if n == number:
                raise Crash

        cloud.act = crash
        with pytest.raises(Crash):
            cloud.both(catalog_id)
        cloud.act = lambda _n, _name: None
        if not cloud.ledger.jobs.of_catalog(TENANT, catalog_id):
            cloud.submit(catalog_id)
        cloud.redeliver()
        cloud.work()
        told = f"crash before call {number}, {calls[number - 1]}"
        assert cloud.states(catalog_id) == {"DONE": PRODUCTS}, told
        assert cloud.rows(catalog_id) == PRODUCTS, told
        assert max(cloud.provider.paid.count(asin) for asin in cloud.provider.paid) <= 2, told
        assert len(cloud.provider.paid) <= PRODUCTS + 4 * 3, told
        assert cloud.queue.depth().waiting == 0, told


def test_f15_messages_that_sqs_did_not_delete_come_again_and_nothing_is_done_twice(cloud: Cloud):
    catalog_id = new_catalog(cloud)
    cloud.submit(catalog_id)
    refused: list[int] = []

    def refuse(parsed: dict[str, Any], **_: object) -> None:
        done, parsed["Successful"] = parsed.get("Successful", []), []
        refused.extend(range(len(done)))
        parsed["Failed"] = [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in done]

    events = cloud.aws.client("sqs").meta.events
    events.register("after-call.sqs.DeleteMessageBatch", refuse)
    cloud.work()
    events.unregister("after-call.sqs.DeleteMessageBatch", refuse)
    assert len(refused) == 2
    snapshots = len(cloud.catalog.load_table((NAMESPACE, ENRICHMENT_TABLE)).metadata.snapshots)
    [job] = cloud.ledger.jobs.of_catalog(TENANT, catalog_id)
    cloud.queue.send([one.body for one in cloud.ledger.batches.of_job(job)])
    cloud.work()
    assert cloud.queue.depth().total == 0
    assert len(cloud.provider.paid) == PRODUCTS
    assert len(cloud.catalog.load_table((NAMESPACE, ENRICHMENT_TABLE)).metadata.snapshots) == snapshots


def test_f16_what_cannot_be_kept_in_the_ledger_is_not_deleted_from_the_queue(cloud: Cloud):
    """Enrichment has no quarantine queue: its ledger keeps the reasons. While that is down no message is deleted."""
    catalog_id = new_catalog(cloud)
    cloud.submit(catalog_id)
    deleted: list[str] = []

    def act(_n: int, name: str) -> None:
        if name == "dynamodb UpdateItem" and "iceberg commit_table" in cloud.calls:
            raise Crash
        if name == "sqs DeleteMessageBatch":
            deleted.append(name)

    cloud.act = act
    with pytest.raises(Crash):
        cloud.work()
    cloud.act = lambda _n, _name: None
    assert deleted == []
    assert cloud.queue.depth().in_flight == 2
    cloud.redeliver()
    cloud.work()
    assert cloud.states(catalog_id) == {"DONE": PRODUCTS}
    assert len(cloud.provider.paid) == PRODUCTS, "the table is asked before the provider is"


def test_f17_a_message_received_too_often_is_a_dead_letter_is_told_and_comes_back(cloud: Cloud):
    catalog_id = new_catalog(cloud)
    submitted = cloud.submit(catalog_id, products=3)
    for _ in range(10):
        [message] = cloud.queue.receive(10, 0)
        cloud.queue.extend([message], 0)
    assert message.receive_count == 10
    assert cloud.queue.receive(10, 0) == []
    _, dead = of_queues(cloud.queue.depth(), cloud.dead.depth())
    assert (dead.passed, dead.found) == (False, "1 messages")
    done = retry(submitted.job, cloud.ledger, cloud.queue, cloud.dead, cloud.clock)
    assert (done.batches, done.dead_letters, done.unsent) == (1, 1, 0)
    assert cloud.dead.depth().total == 0
    cloud.work()
    assert cloud.states(catalog_id) == {"DONE": 3}


def test_h6_without_tokens_batches_wait_in_the_queue_and_nothing_is_paid(cloud: Cloud):
    catalog_id = new_catalog(cloud)
    call_json("POST", f"{cloud.provider_url}/reset", {"tokens": -1000})
    cloud.submit(catalog_id)
    cloud.work()
    assert cloud.states(catalog_id) == {"RETRY": PRODUCTS}
    assert cloud.provider.paid == []
    assert cloud.queue.depth().in_flight == 2
    call_json("POST", f"{cloud.provider_url}/reset")
    cloud.redeliver()
    cloud.shift += timedelta(hours=1)
    cloud.work()
    assert cloud.states(catalog_id) == {"DONE": PRODUCTS}


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

    Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))
    parsed = yaml.load(template(), Loader)  # noqa: S506 - a SafeLoader underneath
    statements = parsed["Resources"]["EnrichmentPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    for statement in statements:
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(one != "*" for one in resources), statement["Sid"]
    actions = (statement["Action"] for statement in statements)
    return {one for action in actions for one in (action if isinstance(action, list) else [action])}


def test_i9_the_policy_allows_what_enrichment_calls_and_hardly_another(cloud: Cloud):
    catalog_id = new_catalog(cloud)
    cloud.queue._queue._url = cloud.dead._queue._url = None
    submitted = cloud.submit(catalog_id)
    cloud.work()
    sweep(cloud.ledger, cloud.queue, cloud.clock)
    cloud.queue.depth()
    cloud.ledger.jobs.of_user(TENANT, "ann")
    cloud.dead.send(["a dead letter"])
    retry(submitted.job, cloud.ledger, cloud.queue, cloud.dead, cloud.clock)
    called = {tuple(name.split()) for name in cloud.calls if name.split()[0] in {"dynamodb", "sqs"}}
    needed = {
        f"{service}:{IAM['sqs'][operation] if service == 'sqs' else operation}"  # type: ignore[index]
        for service, operation in called
    }
    ours = {action for action in _allowed() if action.startswith(("sqs:", "dynamodb:"))}
    assert needed == ours
    cloud.dead.delete(cloud.dead.receive(10, 0))
