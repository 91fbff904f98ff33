"""Shelves, the queue's entrance and the bus in memory, with failures on demand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from salesintel_dagster.domain.errors import EventBusUnavailable, QueueUnavailable
from salesintel_dagster.domain.event_bus import BATCH_BYTES, BATCH_EVENTS, EventBus, NotPut, OutgoingEvent
from salesintel_dagster.domain.event_queue import QueueDepth, QueuedMessage
from salesintel_dagster.domain.message_shelf import (
    BodyRefused,
    MessageInlet,
    MessageShelf,
    ShelvedMessage,
)

BEGAN = datetime(2026, 11, 3, 12, tzinfo=UTC)
HAND = 10


@dataclass(slots=True)
class InMemoryShelf(MessageShelf):
    """`there` by message id; `in_hand` those that somebody has taken; `stubborn` ids are not deleted when asked."""

    there: dict[str, ShelvedMessage] = field(default_factory=dict)
    in_hand: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    down: bool = False
    _put: int = 0

    @property
    def name(self) -> str:
        return "shelf"

    def put(self, body: str, attributes: Mapping[str, str] | None = None) -> str:
        self._put += 1
        name = f"s-{self._put}"
        message = QueuedMessage(name, body, name, 5, BEGAN + timedelta(seconds=self._put))
        self.there[name] = ShelvedMessage(message, attributes or {})
        return name

    def take(self, hold_seconds: int) -> list[ShelvedMessage]:
        assert hold_seconds > 0
        self._check()
        found = [one for name, one in self.there.items() if name not in self.in_hand][:HAND]
        self.in_hand |= {one.message_id for one in found}
        return found

    def give_back(self, messages: Collection[ShelvedMessage]) -> None:
        self.in_hand -= {one.message_id for one in messages}

    def delete(self, messages: Collection[ShelvedMessage]) -> tuple[ShelvedMessage, ...]:
        self._check()
        for one in messages:
            if one.message_id not in self.stubborn:
                self.there.pop(one.message_id, None)
                self.in_hand.discard(one.message_id)
        return tuple(one for one in messages if one.message_id in self.stubborn)

    def depth(self) -> QueueDepth:
        held = len(self.in_hand & self.there.keys())
        return QueueDepth(len(self.there) - held, held, 0)

    def _check(self) -> None:
        if self.down:
            raise QueueUnavailable("the shelf is down")


@dataclass(slots=True)
class InMemoryInlet(MessageInlet):
    """`sent` bodies; those in `refused` are not taken; after `fails_after` calls every other one raises."""

    sent: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    fails_after: int | None = None

    def send(self, bodies: Sequence[str]) -> tuple[BodyRefused, ...]:
        if self.fails_after is not None:
            if self.fails_after == 0:
                raise QueueUnavailable("the queue is down")
            self.fails_after -= 1
        self.sent += [body for body in bodies if body not in self.refused]
        return tuple(BodyRefused(n, "TooLarge") for n, body in enumerate(bodies) if body in self.refused)


@dataclass(slots=True)
class InMemoryBus(EventBus):
    """`taken` details; `answers` maps a detail to the codes of its next tries, in turn; after `fails_after` calls
    every other one raises.
    """

    taken: list[str] = field(default_factory=list)
    answers: dict[str, list[str]] = field(default_factory=dict)
    calls: int = 0
    fails_after: int | None = None

    def put(self, events: Sequence[OutgoingEvent]) -> tuple[NotPut, ...]:
        if self.calls == self.fails_after:
            raise EventBusUnavailable("the bus is down")
        self.calls += 1
        assert len(events) <= BATCH_EVENTS
        assert sum(event.size for event in events) <= BATCH_BYTES
        not_put = []
        for event in events:
            if codes := self.answers.get(event.detail):
                code = codes.pop(0)
                not_put.append(NotPut(event, code, code == "ThrottlingException"))
            else:
                self.taken.append(event.detail)
        return tuple(not_put)
