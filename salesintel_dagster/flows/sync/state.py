"""How the event sync stands: its three queues, how old the oldest message of each is, why events are in quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.domain.event_queues import EventQueueWatch
from salesintel_dagster.domain.message_shelf import MessageShelf
from salesintel_dagster.flows.sync.redrive import Look, look

NO_CODE = "(no code)"


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue. `oldest_seconds` is None where it holds nothing or its age cannot be known; `codes` by reason."""

    name: str
    depth: QueueDepth
    oldest_seconds: float | None
    codes: Mapping[str, int] = field(default_factory=dict)
    not_looked_at: int = 0


@dataclass(frozen=True, slots=True)
class EventsState:
    """The three queues."""

    queue: QueueState
    dead_letters: QueueState
    quarantine: QueueState

    @property
    def needs_a_person(self) -> bool:
        """Whether something waits that the sync alone will not take."""
        return bool(self.dead_letters.depth.total or self.quarantine.depth.total)


def state_of_events(watch: EventQueueWatch, dead: MessageShelf, quarantine: MessageShelf, clock: Clock) -> EventsState:
    """Return how they stand. Raises QueueUnavailable.

    The event queue itself is not looked into: each look would count as a failed delivery of what it sees.
    """
    states = watch.look()
    age = states.oldest.seconds if states.queue.depth.total else None
    return EventsState(
        QueueState(states.queue.name, states.queue.depth, age),
        _shelf(states.dead_letters.depth, dead, clock),
        _shelf(states.quarantine.depth, quarantine, clock),
    )


def _shelf(depth: QueueDepth, shelf: MessageShelf, clock: Clock) -> QueueState:
    found = look(shelf) if depth.total else Look(())
    ages = [(clock.now() - one.message.sent_at).total_seconds() for one in found.messages]
    codes = Counter(one.code or NO_CODE for one in found.events)
    return QueueState(shelf.name, depth, max(ages, default=None), dict(codes.most_common()), found.more + found.held)
