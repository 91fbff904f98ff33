"""The sync's three queues as they stand: depths, attributes, the oldest message's age, and what contradicts the design.

Nobody receives a message to learn of any of it: a look must not count as one of a message's five receives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from salesintel_dagster.domain.event_queue import QueueDepth

QUEUE_RETENTION = timedelta(days=4)
SHELF_RETENTION = timedelta(days=14)
"""DESIGN 3.1. Dead letters and quarantine wait for a person; 14 days are the longest that SQS keeps a message."""
LEAST_RECEIVES = 2
"""A message that may be received once only is a dead letter after the first crash."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue. `dead_letters` names the queue that takes what was received `most_receives` times, where one does."""

    name: str
    depth: QueueDepth
    retention: timedelta
    visibility: timedelta
    dead_letters: str | None = None
    most_receives: int | None = None


@dataclass(frozen=True, slots=True)
class OldestAge:
    """Age of the oldest message that waits; None where nobody can tell, and `told` says who did or why nobody can."""

    seconds: float | None
    told: str


@dataclass(frozen=True, slots=True)
class EventQueueStates:
    """The queue of sold events, its dead letters, its quarantine."""

    queue: QueueState
    dead_letters: QueueState
    quarantine: QueueState
    oldest: OldestAge


class EventQueueWatch(ABC):
    """Looks at the queues and changes nothing in them."""

    @abstractmethod
    def look(self) -> EventQueueStates:
        """Return how the queues stand. Raises QueueUnavailable, naming the queue."""


def misfits(states: EventQueueStates, least_visibility: timedelta) -> Iterator[str]:
    """Yield a sentence for each attribute under which a message may be lost or come twice."""
    queue, dead_letters = states.queue, states.dead_letters
    designed = ((queue, QUEUE_RETENTION), (dead_letters, SHELF_RETENTION), (states.quarantine, SHELF_RETENTION))
    for one, least in designed:
        if one.retention < least:
            yield f"{one.name} keeps messages for {_told(one.retention)}, expected {_told(least)}: then SQS drops them"
    if dead_letters.retention <= queue.retention:
        yield (
            f"{dead_letters.name} keeps messages for {_told(dead_letters.retention)}, {queue.name} for "
            f"{_told(queue.retention)}: a dead letter keeps its age and is dropped before anybody has looked"
        )
    if queue.visibility < least_visibility:
        yield (
            f"{queue.name} shows a message again after {_told(queue.visibility)}, expected at least "
            f"{_told(least_visibility)} (6 x a gathering): it comes again while it is worked on"
        )
    if queue.dead_letters is None:
        yield f"{queue.name} has no redrive policy: a message that kills its worker comes again until it is dropped"
    elif queue.dead_letters != dead_letters.name:
        yield f"{queue.name} sends dead letters to {queue.dead_letters}; {dead_letters.name} is the one that is watched"
    elif queue.most_receives is not None and queue.most_receives < LEAST_RECEIVES:
        yield f"{queue.name} gives up after {queue.most_receives} receive: one crash makes a dead letter"


def _told(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:g} d" if days >= 1 else f"{span.total_seconds():g} s"
