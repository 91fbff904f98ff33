"""A21: an export that is killed in mid run, from its last sign of life to the run that makes its day good."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import astuple, replace
from datetime import timedelta
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.domain.progress import RunState
from salesintel_dagster.flows.export.lost_runs import lose_dead_runs
from salesintel_dagster_tests.harness.export_flow import DAY, ExportFlow
from salesintel_dagster_tests.lakes import local_catalog
from salesintel_dagster_tests.services import Services

pytestmark = pytest.mark.slow

MAX_RUN = timedelta(hours=4)
CHILD = """
import ast, sys, time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.harness import export_flow
from salesintel_dagster_tests.lakes import local_catalog

clock = held_clock()
earlier = clock.now() - timedelta(hours=6)
export_flow.held_clock = lambda: replace(clock, now=lambda: earlier)
flow = export_flow.ExportFlow(AwsClients(AwsTarget(*ast.literal_eval(sys.argv[2]))), local_catalog(Path(sys.argv[1])))
world = flow.world()

def hang(url, deadline_seconds):
    print(world.bucket, flush=True)
    time.sleep(600)

world.images.fetch = hang
flow.start(world)
"""


def test_a_killed_export_is_lost_after_the_longest_run_and_its_day_is_made_good(services: Services, tmp_path: Path):
    """A21"""
    target = services.aws.new_target()
    command = [sys.executable, "-c", CHILD, str(tmp_path), repr(astuple(target))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        stores = child.stdout.readline().strip()
        child.kill()
    assert stores, "the child never came to its images"
    aws = AwsClients(target)
    ledger = DynamoProgressLedger(aws.client("dynamodb"), stores)
    left = ledger.newest(DAY)
    assert left is not None
    assert (left.run_id, left.state, left.stage) == ("first", RunState.RUNNING, "product_images")

    longest = left.updated_at + MAX_RUN
    for now, lost in ((longest, []), (longest + timedelta(seconds=1), ["first"])):
        found = lose_dead_runs(ledger, [DAY], lambda _run_id: True, now, MAX_RUN)  # Dagster still takes it for alive
        assert [each.run_id for each in found] == lost
    left = ledger.newest(DAY)
    assert left is not None
    assert left.state is RunState.LOST

    with closing(local_catalog(tmp_path)) as catalog:
        flow = ExportFlow(aws, catalog)
        world = replace(flow.world(), bucket=stores, progress=stores, table=stores)
        flow.recover(world)
        flow.check(world)
    newest = ledger.newest(DAY)
    assert newest is not None
    assert newest.state is RunState.SUCCEEDED
    assert {each.run_id: each.state for each in ledger.history(DAY)}["first"] is RunState.LOST
