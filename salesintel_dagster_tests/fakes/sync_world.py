"""A whole sync in memory: the ports, a clock held by hand, and what to compare at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules, SyncTally
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue, InMemoryQuarantine, InMemoryReceipts
from salesintel_dagster_tests.fakes.events import RULES, envelope
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository

SYNC_RULES = SyncRules(events=RULES, gather_seconds=0, idle_seconds=0, ledger_writers=1)
Held = dict[tuple[str, str], str]


@dataclass
class FakeSync:
    """`said` are the lines that it logged; `now` is moved by hand."""

    now: datetime = datetime(2026, 11, 3, 12, 1, tzinfo=UTC)
    said: list[str] = field(default_factory=list)
    rules: SyncRules = SYNC_RULES

    def __post_init__(self) -> None:
        self.seconds = 0.0
        self.clock = Clock(self._now, lambda: self.seconds, self._sleep, lambda: 0.5)
        self.queue = InMemoryEventQueue(clock=self.clock)
        self.quarantine = InMemoryQuarantine()
        self.receipts = InMemoryReceipts(self.clock)
        self.ledger = InMemorySalesRepository(self.clock)
        self.table = InMemoryKeyedTable()

    @property
    def parts(self) -> SyncParts:
        return SyncParts(self.queue, self.quarantine, self.receipts, self.ledger, self.table)

    def sync(self, run_id: str = "run-1") -> EventSync:
        return EventSync(self.parts, self.rules, self.clock, run_id, self.said.append)

    def send(self, *details: Mapping[str, object], event_id: str = "event-1") -> None:
        self.queue.send(*(envelope(detail, event_id) for detail in details))

    def drain(self, **changed: object) -> SyncTally:
        self.rules = replace(self.rules, **changed)
        return sum(self.sync().drain(), SyncTally())

    def later(self, **units: float) -> None:
        self.now += timedelta(**units)
        self.queue.show_again()

    def in_ledger(self) -> Held:
        return {key: sale.record.payload_hash for key, sale in self.ledger.sales.items()}

    def in_table(self) -> Held:
        return {tuple(key): str(row["payload_hash"]) for key, row in self.table.rows.items()}

    def sales(self) -> list[str]:
        """Return the sale ids that both stores hold alike. Raises AssertionError where they differ."""
        assert self.in_ledger() == self.in_table()
        return sorted(sale for _, sale in self.in_table())

    def _now(self) -> datetime:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
