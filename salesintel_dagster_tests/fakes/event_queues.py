"""The sync's queues as somebody sees them, and the table as the daily checks see it, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa

from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import EventQueue, QueueDepth
from salesintel_dagster.domain.event_queues import EventQueueStates, EventQueueWatch, OldestAge, QueueState
from salesintel_dagster.domain.history_facts import HistoryFacts
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable

EMPTY = QueueDepth(0, 0, 0)
SAME = ("tenant_id", "product_id", "sold_price", "currency", "sold_date")


def state(name: str = "events", messages: int = 0, days: float = 4, **changed: object) -> QueueState:
    """Return a queue as the template makes it."""
    values: dict[str, object] = {
        "name": name,
        "depth": QueueDepth(messages, 0, 0),
        "retention": timedelta(days=days),
        "visibility": timedelta(seconds=180),
    }
    if name == "events":
        values |= {"dead_letters": "dlq", "most_receives": 5}
    return QueueState(**(values | changed))  # type: ignore[arg-type]


@dataclass
class FakeEventQueueWatch(EventQueueWatch):
    """`dead` and `kept` are messages in the queues behind; `gone` is the reason why nobody can look."""

    events: EventQueue | None = None
    dead: int = 0
    kept: int = 0
    oldest: OldestAge = field(default_factory=lambda: OldestAge(None, "age unknown: no metric"))
    gone: str = ""
    changed: Mapping[str, object] = field(default_factory=dict)

    def look(self) -> EventQueueStates:
        if self.gone:
            raise QueueUnavailable(self.gone)
        depth = self.events.depth() if self.events else EMPTY
        return EventQueueStates(
            state(**{"depth": depth, **self.changed}),  # type: ignore[arg-type]
            state("dlq", self.dead, days=14),
            state("quarantine", self.kept, days=14),
            self.oldest,
        )


@dataclass
class InMemoryHistoryFacts(HistoryFacts):
    """Over `table`; `other` are rows of smartgo_sales, `again` are keys that the table is to hold once more."""

    table: InMemoryKeyedTable
    other: list[Mapping[str, object]] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def repeated(self) -> list[str]:
        counts = Counter([f"{tenant}/{sale}" for tenant, sale in self.table.rows] + self.again)
        return [f"{key}: {count} rows" for key, count in sorted(counts.items()) if count > 1]

    def vectors(self, days: Sequence[date]) -> Iterator[pa.RecordBatch]:
        rows = [row for row in self.table.rows.values() if row["sold_date"] in days]
        yield from pa.Table.from_pylist(rows, HISTORY_SCHEMA).to_batches()

    def in_both_sources(self, days: Sequence[date]) -> list[str]:
        return sorted(
            f"{row['tenant_id']}/{row['sale_id']}: {row['sold_date']} {row['product_id']}, smartgo_sales has it as "
            f"{other['sale_id']}"
            for row in self.table.rows.values()
            for other in self.other
            if row["sold_date"] in days and all(row[name] == other[name] for name in SAME)
        )
