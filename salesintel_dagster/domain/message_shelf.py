"""Queues that a person looks into and takes messages back from: dead letters and quarantine. Ports and values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from salesintel_dagster.domain.event_queue import QueueDepth, QueuedMessage


@dataclass(frozen=True, slots=True)
class ShelvedMessage:
    """A message that lies there, and the attributes it was put there with (in quarantine: the reason)."""

    message: QueuedMessage
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def message_id(self) -> str:
        """The id under which the queue knows it."""
        return self.message.message_id

    @property
    def origin(self) -> str:
        """The id of the message that was quarantined; a crash may have put it here twice. Elsewhere its own id."""
        return self.attributes.get("messageId") or self.message_id

    @property
    def code(self) -> str | None:
        """Why it was quarantined, as a stable code."""
        return self.attributes.get("code")


def by_origin(messages: Iterable[ShelvedMessage]) -> list[list[ShelvedMessage]]:
    """Return the copies of each quarantined message together, in the order of the first of each.

    A copy has the same body: what somebody else's `messageId` makes look like one is an event of its own.
    """
    found: dict[tuple[str, str], list[ShelvedMessage]] = {}
    for one in messages:
        found.setdefault((one.origin, one.message.body), []).append(one)
    return list(found.values())


class MessageShelf(ABC):
    """A queue without a consumer. What is taken in hand is hidden from others until it is given back or time is up."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the queue is called."""

    @abstractmethod
    def take(self, hold_seconds: int) -> list[ShelvedMessage]:
        """Return some messages that are in nobody's hand, at most 10; none if there are none.

        Raises QueueUnavailable.
        """

    @abstractmethod
    def give_back(self, messages: Collection[ShelvedMessage]) -> None:
        """Let others see these at once. Raises QueueUnavailable."""

    @abstractmethod
    def delete(self, messages: Collection[ShelvedMessage]) -> tuple[ShelvedMessage, ...]:
        """Delete these; return those that the queue refused to delete. Raises QueueUnavailable."""

    @abstractmethod
    def depth(self) -> QueueDepth:
        """Return how much the queue holds, approximately. Raises QueueUnavailable."""


@dataclass(frozen=True, slots=True)
class BodyRefused:
    """A body that a queue did not take: its place among those sent, and why."""

    number: int
    reason: str


class MessageInlet(ABC):
    """A queue, seen by who puts messages on it."""

    @abstractmethod
    def send(self, bodies: Sequence[str]) -> tuple[BodyRefused, ...]:
        """Put the bodies on the queue; return those that it did not take. Raises QueueUnavailable."""
