"""F20: a long backlog takes no more memory than a short one. The ports forget what they are given."""

from __future__ import annotations

import tracemalloc
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.domain.keyed_table import KeyedCommit
from salesintel_dagster.domain.receipts import Receipt
from salesintel_dagster.domain.sale_event import SaleIdentity
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import PutOutcome, PutResult
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue, InMemoryQuarantine, InMemoryReceipts
from salesintel_dagster_tests.fakes.events import envelope, sold
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.fakes.sync_world import SYNC_RULES

MARGIN_BYTES = 600_000
"""Caches of the interpreter and of Arrow, and how the writers' threads happen to overlap (330,000 seen on busy cores).

A batch of these events takes 0.7 MB, 5,000 of them 6 MB.
"""


class Backlog(InMemoryEventQueue):
    """So many events, made when they are received, and gone with it."""

    left = 0
    most_at_once = 0

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:  # noqa: ARG002 - nobody else sends
        hand = range(self.left, max(self.left - min(most, 10), 0), -1)
        self.left -= len(hand)
        now = datetime.now(UTC)
        return [
            QueuedMessage(f"{n}", envelope(sold(f"S-{n}", description="x" * 500), f"e-{n}"), f"h-{n}", 1, now)
            for n in hand
        ]

    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        self.most_at_once = max(self.most_at_once, len(messages))
        return ()


class ForgetfulLedger(InMemorySalesRepository):
    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        context.require(record.tenant)
        return PutResult(PutOutcome.CREATED, record.payload_hash)


class ForgetfulTable(InMemoryKeyedTable):
    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:  # noqa: ARG002 - the port's
        return KeyedCommit(1, rows.num_rows, 0, {}, (), 1, 0.0)


class ForgetfulReceipts(InMemoryReceipts):
    def get(self, identities: Collection[SaleIdentity]) -> Mapping[SaleIdentity, Receipt]:  # noqa: ARG002 - the port's
        return {}

    def put(self, receipts: Collection[Receipt]) -> None:
        """Forget them."""


def peak_of(count: int) -> tuple[int, int]:
    """Return the peak of memory while `count` events are drained, and the batches that took."""
    queue = Backlog()
    queue.left = count
    parts = SyncParts(queue, InMemoryQuarantine(), ForgetfulReceipts(), ForgetfulLedger(), ForgetfulTable())
    said: list[str] = []
    rules = replace(SYNC_RULES, deadline_seconds=600)
    tracemalloc.start()
    try:
        written = sum(tally.written for tally in EventSync(parts, rules, SYSTEM_CLOCK, "run-1", said.append).drain())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written == count
    assert queue.most_at_once <= rules.batch_messages
    return peak, len(said)


@pytest.mark.slow
def test_memory_is_one_batch_however_long_the_backlog():
    """F20"""
    peak_of(100)
    short, long = peak_of(500), peak_of(5_000)
    assert (short[1], long[1]) == (5, 50)
    assert long[0] < short[0] + MARGIN_BYTES
