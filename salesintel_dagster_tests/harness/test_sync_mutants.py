"""F2: the harness kills every wrong variant of the sync, so that its silence about the true one means something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from pyiceberg.catalog import Catalog

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster_tests.harness.enumerators import every_crash, every_error, every_interleaving
from salesintel_dagster_tests.harness.mutants import MUTANTS
from salesintel_dagster_tests.harness.sync_flow import SyncFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with closing(local_catalog(tmp_path_factory.mktemp("lake"))) as opened:
        yield opened


STEP_5 = ("load_table", "commit_table")
CRASH, MEETING, ERROR = "crash", "interleave", "error"
KILLED_BY = {
    "receipt before Iceberg": (CRASH, STEP_5, "the stores differ"),
    "delete before commit": (CRASH, STEP_5, "the stores differ"),
    "mark first": (CRASH, ("dynamodb.TransactWriteItems",), "lost"),
    "upsert": (MEETING, STEP_5, "doubled in Iceberg"),
    "anti-join and append": (MEETING, STEP_5, "doubled in Iceberg"),
    "plain append": (CRASH, STEP_5, "doubled in Iceberg"),
    "no guard": (CRASH, STEP_5, "doubled in DynamoDB"),
    "swallowed errors": (ERROR, STEP_5, "the stores differ"),
    "only what is new in DynamoDB": (CRASH, STEP_5, "the stores differ"),
}
"""Enumerator, calls and symptom that suffice: the whole harness on nine mutants takes nine times as long."""


@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_sync_is_found_out(services: Services, catalog: Catalog, name: str) -> None:
    """F2"""
    flow = SyncFlow(AwsClients(services.aws.new_target()), catalog, **MUTANTS[name])
    enumerator, only, symptom = KILLED_BY[name]
    if enumerator == MEETING:
        report = every_interleaving(flow, flow.second, only=only, first_failure=True)
    else:
        report = {CRASH: every_crash, ERROR: every_error}[enumerator](flow, only=only, first_failure=True)
    assert [problem for problem in report.failures.values() if symptom in problem], report
