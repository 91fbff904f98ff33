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


EVERY_KIND = {"read", "fetch", "embed", "s3.PutObject", "s3.GetObject", "dynamodb.PutItem", "commit_table"}


def assert_none(report: Report) -> None:
    assert set(report.calls) >= EVERY_KIND
    assert report.cases >= len(report.calls)
    assert report.failures == {}


def test_a_run_may_die_before_and_after_every_call(flow: ExportFlow) -> None:
    """A7, B16, C6, C10, D4"""
    assert_none(every_crash(flow))


def test_another_run_of_the_same_day_may_do_everything_before_every_call(flow: ExportFlow) -> None:
    """A8, D1"""
    assert_none(every_interleaving(flow, flow.second))
