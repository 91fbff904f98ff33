"""Step 1 and the loop: gather messages, take them through a micro-batch, go on until nothing comes or time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.sync.batch import MicroBatch
from salesintel_dagster.flows.sync.heartbeat import Heartbeat
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules, SyncTally

FULL_HAND = 10
"""Messages that a queue gives at once; fewer mean that it has no backlog."""
LONGEST_WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class EventSync:
    """Drains the queue. Any number may run at once, and any may die at any moment: see `MicroBatch`."""

    parts: SyncParts
    rules: SyncRules
    clock: Clock
    run_id: str
    log: Callable[[str], None]
    batch: type[MicroBatch] = MicroBatch

    def drain(self) -> Iterator[SyncTally]:
        """Yield each batch's tally. Raises what the ports raise: what is not deleted then comes again.

        Of a batch that an error ends, what was counted until then is yielded before the error is raised.
        """
        began = self.clock.monotonic()
        number = 0
        with Heartbeat(self.parts.queue, self.rules.visibility_seconds, self.log) as heartbeat:
            while self.clock.monotonic() - began < self.rules.deadline_seconds:
                messages = self.gathered(heartbeat)
                if not messages:
                    return
                number += 1
                batch_id = f"{self.run_id}/{number}"
                started = self.clock.monotonic()
                batch = self.batch(self.parts, self.rules, self.clock, heartbeat, self.run_id, batch_id)
                try:
                    tally = batch.run(messages)
                except Exception:
                    yield batch.tally
                    raise
                finally:
                    heartbeat.release(messages)
                self._say(batch_id, tally, self.clock.monotonic() - started)
                yield tally

    def gathered(self, heartbeat: Heartbeat) -> list[QueuedMessage]:
        """Return the next messages; none where nothing came for `idle_seconds`."""
        found = {one.message_id: one for one in self._first()}
        until = self.clock.monotonic() + self.rules.gather_seconds
        hand = len(found)
        while found and len(found) < self.rules.batch_messages:
            left = until - self.clock.monotonic()
            if left < 1 and hand < FULL_HAND:
                break
            heartbeat.hold(found.values())
            room = self.rules.batch_messages - len(found)
            more = self.parts.queue.receive(room, 0 if hand >= FULL_HAND else min(left, LONGEST_WAIT_SECONDS))
            found |= {one.message_id: one for one in more}
            hand = len(more)
        return list(found.values())

    def _first(self) -> list[QueuedMessage]:
        until = self.clock.monotonic() + self.rules.idle_seconds
        while True:
            left = max(0.0, until - self.clock.monotonic())
            found = self.parts.queue.receive(self.rules.batch_messages, min(left, LONGEST_WAIT_SECONDS))
            if found or left <= 1:
                return found

    def _say(self, batch_id: str, tally: SyncTally, seconds: float) -> None:
        counts = ("received", "written", "duplicates", "superseded", "conflicts", "quarantined", "left")
        told = " ".join(f"{name}={getattr(tally, name)}" for name in counts)
        self.log(f"[CarouselSync] Batch done batch={batch_id} {told} seconds={seconds:.2f}")
