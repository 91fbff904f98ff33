"""A7, A8, B16, C10: the daily export, disturbed at every remote call it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.harness.enumerators import (
    Report,
    every_crash,
    every_interleaving,
)
from salesintel_dagster_tests.harness.export_flow import ExportFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def flow(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportFlow]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as catalog:
        yield ExportFlow(AwsClients(services.aws.new_target()), catalog)


DECISIONS = ("read", "fetch", "embed", "s3.PutObject", "s3.ListObjectsV2", "load_table", "commit_table")
"""What another run can get in between of; the rest reads what is the run's own, or tells its progress."""
READS = ("read", "fetch", "s3.HeadObject", "s3.GetObject", "s3.ListObjectsV2", "load_table")
EVERY_KIND = {"read", "fetch", "embed", "s3.PutObject", "s3.GetObject", "dynamodb.PutItem", "commit_table"}


def assert_none(report: Report) -> None:
    assert set(report.calls) >= EVERY_KIND
    assert report.failures == {}


def test_a_run_may_die_before_and_after_every_call(flow: ExportFlow) -> None:
    """A7, B16, C6, C10, D4"""
    report = every_crash(flow, reads=READS)
    assert_none(report)
    assert report.cases == sum(1 if name in READS else 2 for name in report.calls)


def test_another_run_of_the_same_day_may_do_everything_before_every_decision(flow: ExportFlow) -> None:
    """A8, D1"""
    report = every_interleaving(flow, flow.second, only=DECISIONS)
    assert_none(report)
    assert report.cases == sum(name in DECISIONS for name in report.calls)
