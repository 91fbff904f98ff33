"""Sold events onto the bus: in its batches, what it does not take at once again, what it never takes told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import EventBusUnavailable
from salesintel_dagster.domain.event_bus import EventBus, NotPut, OutgoingEvent, batches
from salesintel_dagster.domain.retry import RetryPolicy

SEND_RETRY = RetryPolicy(retries=5, base_seconds=0.2, deadline_seconds=30.0)
"""For one batch; beside botocore's own tries, which see only whole requests fail."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How many events the bus took, and those that it did not, with its code.

    An `error` ended the sending: each of the `uncertain` places may have been taken, none after them was sent.
    """

    taken: int
    refused: tuple[NotPut, ...]
    uncertain: tuple[int, ...] = ()
    error: EventBusUnavailable | None = None


def send(
    bus: EventBus, events: Iterable[OutgoingEvent], clock: Clock, tell: Callable[[int], object] = lambda _: None
) -> Sent:
    """Send all, or until the bus does not answer; `tell` hears the number taken so far."""
    taken = 0
    refused: list[NotPut] = []
    for batch in batches(events):
        try:
            never = _send_batch(bus, batch, clock)
        except EventBusUnavailable as error:
            return Sent(taken, tuple(refused), tuple(event.place for event in batch), error)
        refused += never
        taken += len(batch) - len(never)
        tell(taken)
    return Sent(taken, tuple(refused))


def _send_batch(bus: EventBus, batch: list[OutgoingEvent], clock: Clock) -> list[NotPut]:
    began = clock.monotonic()
    never: list[NotPut] = []
    tries = 0
    while batch:
        tries += 1
        not_put = bus.put(batch)
        never += [one for one in not_put if not one.again]
        later = [one for one in not_put if one.again]
        wait = SEND_RETRY.wait_seconds(tries, clock.monotonic() - began, clock.jitter())
        if wait is None:
            return never + later
        batch = [one.event for one in later]
        if batch:
            clock.sleep(wait)
    return never
