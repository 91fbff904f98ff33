"""Rows of the sync that only real stores can show; the logic itself is tested in memory (`flows/test_sync.py`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.queues import SqsEventQueue
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.flows.sync.parts import SyncTally
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.harness.refusing import Refusing
from salesintel_dagster_tests.harness.sync_flow import SyncFlow, SyncWorld, quick_clock
from salesintel_dagster_tests.lakes import Disturbed, local_catalog
from salesintel_dagster_tests.services import Services

Sender = Callable[..., tuple[SyncFlow, SyncWorld]]


@pytest.fixture
def sent(services: Services, tmp_path: Path) -> Iterator[Sender]:
    with closing(local_catalog(tmp_path)) as catalog:

        def send(*bodies: str) -> tuple[SyncFlow, SyncWorld]:
            flow = SyncFlow(AwsClients(services.aws.new_target()), catalog, messages=bodies)
            return flow, flow.world()

        yield send


def drained(flow: SyncFlow, world: SyncWorld, **rules: object) -> SyncTally:
    sync = flow.sync(world, "run-1")
    return sum(replace(sync, rules=replace(sync.rules, **rules)).drain(), SyncTally())


def test_ninety_nine_good_ones_and_a_bad_one_are_one_snapshot(sent: Sender) -> None:
    """F12"""
    good = [envelope(sold(f"S-{n}", soldAt=f"2026-11-{1 + n % 3:02}T12:00:00Z"), f"e-{n}") for n in range(99)]
    flow, world = sent(*good[:50], "poison", *good[50:])
    tally = drained(flow, world, ledger_writers=8)
    assert (tally.received, tally.written, tally.quarantined, tally.commits) == (100, 99, 1, 1)
    table = flow.table(world)
    assert table is not None
    assert len(table.metadata.snapshots) == 1
    flow.check(world)


def test_a_row_that_no_commit_takes_is_in_neither_store_and_the_others_are_in_both(sent: Sender) -> None:
    """F13"""
    bodies = [envelope(sold(f"S-{n}"), f"e-{n}") for n in range(5)]
    flow, world = sent(*bodies)
    flow.parts = lambda parts: replace(parts, table=Refusing(parts.table, ("S-3", 1)))
    flow.start(world)
    assert sorted(sale.sale_id for sale in flow.in_table(world)) == ["S-0", "S-1", "S-2", "S-4"]
    assert flow.in_ledger(world) == flow.in_table(world)
    assert flow.in_quarantine(world) == {bodies[3]: 1}
    assert flow.depth(world) == 0


def test_the_same_event_after_a_day_and_as_a_bare_detail_is_one_sale(sent: Sender) -> None:
    """F4: after the receipt has expired, and after a redrive by hand"""
    flow, world = sent(envelope(sold("S-1"), "e-1"))
    flow.start(world)
    clock = replace(quick_clock(), now=lambda: SYSTEM_CLOCK.now() + timedelta(hours=25))
    for body in (envelope(sold("S-1"), "e-9"), json.dumps(sold("S-1"))):
        flow.send(world, [body])
        (tally,) = flow.sync(world, "run-2", clock=clock).drain()
        assert (tally.written, tally.duplicates) == (0, 1)
    flow.check(world)
    assert len(flow.in_table(world)) == 1


@pytest.mark.slow
def test_work_that_outlasts_the_visibility_keeps_its_messages(sent: Sender) -> None:
    """F14"""
    flow, world = sent(envelope(sold("S-1"), "e-1"))
    began, seen = threading.Event(), []

    def take_long(_: int) -> None:
        began.set()
        until = time.monotonic() + 3.5
        other = SqsEventQueue(flow.sqs, world.name("events"), 1)
        while time.monotonic() < until:
            seen.append(len(other.receive(10, 0)))
            time.sleep(0.1)

    Disturbed(flow.catalog, before=take_long)
    sync = flow.sync(world, "run-1", clock=SYSTEM_CLOCK, visibility_seconds=1)
    (tally,) = sync.drain()
    assert (tally.written, tally.left) == (1, 0)
    assert began.is_set()
    assert sum(seen) == 0
    assert flow.depth(world) == 0
