"""The bus on which sold events arrive, seen by who sends them, and its limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from salesintel_dagster.domain.sale_event import EVENT_SOURCE, EVENT_TYPE, MAX_EVENT_BYTES

BATCH_EVENTS = 10
"""Entries that PutEvents takes at once."""
BATCH_BYTES = 256 * 1024
"""All entries of one PutEvents: what every region takes; some take 1 MB by now."""
ENVELOPE_BYTES = 1024
"""Kept free for what EventBridge puts around a detail: the queue takes `MAX_EVENT_BYTES` of both together."""
MAX_DETAIL_BYTES = MAX_EVENT_BYTES - ENVELOPE_BYTES
_TIME_BYTES = 14
"""What the time counts in an entry's size."""


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """A sold event as it is sent: `place` says where it came from (a line's number), `detail` is JSON text."""

    place: int
    detail: str
    time: datetime | None = None

    @property
    def size(self) -> int:
        """Its bytes as PutEvents counts them."""
        texts = (EVENT_SOURCE, EVENT_TYPE, self.detail)
        return sum(len(text.encode()) for text in texts) + (_TIME_BYTES if self.time else 0)


@dataclass(frozen=True, slots=True)
class NotPut:
    """An event that the bus did not take; `again` says whether the same may be taken later."""

    event: OutgoingEvent
    code: str
    again: bool


class EventBus(ABC):
    """Takes events. One that is taken is delivered at least once; its id is the bus's own."""

    @abstractmethod
    def put(self, events: Sequence[OutgoingEvent]) -> tuple[NotPut, ...]:
        """Send at most BATCH_EVENTS of BATCH_BYTES together; return those that were not taken.

        Raises EventBusUnavailable: then any of them may have been taken.
        """


def batches(events: Iterable[OutgoingEvent]) -> Iterator[list[OutgoingEvent]]:
    """Yield the events in batches that the bus takes, in order."""
    batch: list[OutgoingEvent] = []
    size = 0
    for event in events:
        if batch and (len(batch) == BATCH_EVENTS or size + event.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += event.size
    if batch:
        yield batch
