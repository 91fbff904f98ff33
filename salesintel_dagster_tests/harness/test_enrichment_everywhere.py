"""H3, H10: the enrichment, disturbed at every remote call it makes, from the submission to the deleted message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.harness.enrichment_flow import EnrichmentFlow
from salesintel_dagster_tests.harness.enumerators import Report, every_crash, every_error, every_interleaving
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.local.stand_ins import stand_in
from salesintel_dagster_tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EVERY_KIND = {
    "sqs.SendMessageBatch",
    "sqs.ReceiveMessage",
    "sqs.DeleteMessageBatch",
    "dynamodb.GetItem",
    "dynamodb.PutItem",
    "dynamodb.UpdateItem",
    "_exchange",
    "load_table",
    "commit_table",
}

READS = ("dynamodb.BatchGetItem", "dynamodb.GetItem", "dynamodb.Query", "load_table")
PAYS_OR_WRITES = ("_exchange", "commit_table", "dynamodb.UpdateItem", "sqs.SendMessageBatch", "sqs.DeleteMessageBatch")


@pytest.fixture(scope="module")
def flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrichmentFlow]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog, stand_in("keepa_server") as url:
        yield EnrichmentFlow(AwsClients(services.aws.new_target()), catalog, url)


def assert_none(report: Report, cases: int) -> None:
    assert set(report.calls) >= EVERY_KIND
    assert report.cases == cases * len(report.calls)
    assert report.failures == {}


def test_a_worker_may_die_before_and_after_every_call(flow: EnrichmentFlow) -> None:
    """H3, H10"""
    report = every_crash(flow, reads=READS)
    assert set(report.calls) >= EVERY_KIND
    assert report.cases == sum(1 if name in READS else 2 for name in report.calls)
    assert report.failures == {}


def test_every_call_may_be_throttled_unreachable_or_lose_its_answer(flow: EnrichmentFlow) -> None:
    """H3, H6, H10: each call that pays or writes; the others meet every error in flows/test_enrichment_crashes.py."""
    report = every_error(flow, only=PAYS_OR_WRITES)
    assert report.cases == 3 * sum(name in PAYS_OR_WRITES for name in report.calls)
    assert report.failures == {}


def test_a_second_worker_may_take_over_before_every_call(flow: EnrichmentFlow) -> None:
    """H3, H5, H10: the first one wakes up as a zombie and goes on."""
    assert_none(every_interleaving(flow, flow.second), 1)
