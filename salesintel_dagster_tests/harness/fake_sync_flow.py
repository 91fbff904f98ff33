"""The event sync in memory as a flow of the harness: every call of a port is one call, a case costs milliseconds.

For what only the order of calls decides. What a real store does with a call is `sync_flow`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from salesintel_dagster.domain.sale_event import SaleEvent, parse_event
from salesintel_dagster.flows.sync.batch import MicroBatch
from salesintel_dagster.flows.sync.parts import SyncParts
from salesintel_dagster.flows.sync.pending import ROW_REFUSED
from salesintel_dagster_tests.fakes.events import RULES
from salesintel_dagster_tests.fakes.sync_world import SYNC_RULES, FakeSync
from salesintel_dagster_tests.harness.calls import Line

ROUNDS = 6


class Watched:
    """A port whose every call is seen."""

    def __init__(self, port: object, name: str, line: Line) -> None:
        self._port, self._name, self._line = port, name, line

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - whatever the port has
        return self._line.watched(getattr(self._port, method), f"{self._name}.{method}")


@dataclass
class FakeSyncFlow:
    """`refused` are sale ids with the version whose row Iceberg does not take; `together` messages make a batch."""

    before: tuple[str, ...]
    messages: tuple[str, ...]
    refused: frozenset[tuple[str, int]] = frozenset()
    together: int = 100
    batch: type[MicroBatch] = MicroBatch
    line: Line = field(default_factory=Line)

    def world(self) -> FakeSync:
        world = FakeSync(rules=replace(SYNC_RULES, batch_messages=self.together))
        world.table.refused = set(self.refused)
        world.queue.send(*self.before)
        world.drain()
        world.later(hours=25)
        world.queue.send(*self.messages)
        return world

    def start(self, world: FakeSync) -> None:
        sync = world.sync()
        named = {name: Watched(getattr(sync.parts, name), name, self.line) for name in SyncParts.__slots__}
        for _ in replace(sync, batch=self.batch, parts=SyncParts(**named)).drain():  # type: ignore[arg-type]
            pass

    def beside(self, world: FakeSync) -> None:
        """Run another worker on what the first one has not in hand."""
        for _ in replace(world.sync("beside"), batch=self.batch).drain():
            pass

    def second(self, world: FakeSync) -> None:
        """Run another worker on everything, the first one's messages being visible again."""
        world.queue.show_again()
        self.beside(world)

    def recover(self, world: FakeSync) -> None:
        for _ in range(ROUNDS):
            self.second(world)
            if not world.queue.messages:
                return
        raise AssertionError(f"{len(world.queue.messages)} messages are still in the queue")

    def check(self, world: FakeSync) -> None:
        """Find the highest version that Iceberg takes in both stores, and what it refuses in quarantine alone."""
        expected: dict[tuple[str, str], SaleEvent] = {}
        refused = set()
        for body in (*self.before, *self.messages):
            event = parse_event(body, RULES)
            assert isinstance(event, SaleEvent)
            version = event.record.event_version
            if (event.identity.sale_id, version) in self.refused:
                refused.add(body)
            elif event.identity not in expected or expected[event.identity].record.event_version < version:
                expected[event.identity] = event
        hashes = {tuple(identity): event.record.payload_hash for identity, event in expected.items()}
        assert world.in_table() == hashes, "sales_history is not as it must be"
        assert world.in_ledger() == hashes, "the sales table is not as it must be"
        assert set(world.quarantine.codes) <= {ROW_REFUSED}
        assert {entry.message.body for entry in world.quarantine.entries} == refused, "the quarantine is not"
