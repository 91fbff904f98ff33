"""F1: the event sync, disturbed at every remote call it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.harness.enumerators import Report, every_crash, every_error, every_interleaving
from salesintel_dagster_tests.harness.refusing import Refusing
from salesintel_dagster_tests.harness.sync_flow import SyncFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EVERY_KIND = {
    "sqs.ReceiveMessage",
    "sqs.SendMessageBatch",
    "sqs.DeleteMessageBatch",
    "dynamodb.BatchGetItem",
    "dynamodb.TransactWriteItems",
    "dynamodb.GetItem",
    "dynamodb.BatchWriteItem",
    "load_table",
    "commit_table",
}


@pytest.fixture(scope="module")
def flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncFlow]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog:
        yield SyncFlow(AwsClients(services.aws.new_target()), catalog)


@pytest.fixture(scope="module")
def later_flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncFlow]:
    """Events of sales that both stores have already: repeated, corrected, contradicted."""
    messages = (
        envelope(sold("A"), "e-3"),
        envelope(sold("A", salePrice=1, eventVersion=2), "e-4"),
        envelope(sold("B", salePrice=1), "e-5"),
    )
    before = (envelope(sold("A"), "e-1"), envelope(sold("B"), "e-2"))
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog:
        yield SyncFlow(AwsClients(services.aws.new_target()), catalog, messages, before)


@pytest.fixture(scope="module")
def refusing_flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncFlow]:
    """Two corrections whose rows Iceberg refuses: of a sale that both stores have, and beside its predecessor."""
    messages = (
        envelope(sold("A", salePrice=1, eventVersion=2), "e-2"),
        envelope(sold("B"), "e-3"),
        envelope(sold("B", salePrice=1, eventVersion=2), "e-4"),
    )
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog:
        flow = SyncFlow(AwsClients(services.aws.new_target()), catalog, messages, (envelope(sold("A"), "e-1"),))
        flow.parts = lambda parts: replace(parts, table=Refusing(parts.table, ("A", 2), ("B", 2)))
        yield flow


READS = ("dynamodb.BatchGetItem", "dynamodb.GetItem", "load_table")
WRITES = ("dynamodb.TransactWriteItems", "commit_table", "sqs.SendMessageBatch", "sqs.DeleteMessageBatch")


def told(report: Report) -> None:
    print(f"{report.cases} cases at {len(report.calls)} calls")  # noqa: T201 - for docs/reliability.md: pytest -s


def assert_none(report: Report, cases: int) -> None:
    assert set(report.calls) >= EVERY_KIND
    told(report)
    assert report.cases == cases * len(report.calls)
    assert report.failures == {}


def test_a_worker_may_die_before_and_after_every_call(flow: SyncFlow) -> None:
    """F1, D1, D3, D4"""
    report = every_crash(flow, reads=READS)
    assert set(report.calls) >= EVERY_KIND
    told(report)
    assert report.cases == sum(1 if name in READS else 2 for name in report.calls)
    assert report.failures == {}


def test_every_call_may_be_throttled_unreachable_or_lose_its_answer(flow: SyncFlow) -> None:
    """F1, D3, E1"""
    assert_none(every_error(flow), 3)


def test_a_second_worker_may_do_everything_before_every_call(flow: SyncFlow) -> None:
    """F1, D1"""
    assert_none(every_interleaving(flow, flow.second), 1)


def test_corrections_hold_whatever_a_second_worker_does(later_flow: SyncFlow) -> None:
    """F1, F6"""
    assert_none(every_interleaving(later_flow, later_flow.second), 1)


def test_a_refused_correction_leaves_its_predecessor_whoever_dies_or_comes_between(refusing_flow: SyncFlow) -> None:
    """F1, F13: at every call that changes something; all others are disturbed in memory (test_sync_corrections)"""
    for report in (
        every_crash(refusing_flow, only=WRITES),
        every_interleaving(refusing_flow, refusing_flow.second, only=WRITES),
    ):
        told(report)
        assert set(report.calls) >= set(WRITES)
        assert report.failures == {}
