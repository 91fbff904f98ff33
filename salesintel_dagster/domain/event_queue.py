"""The queue of sold events and the quarantine beside it, as ports, and what travels through them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from salesintel_dagster.domain.sale import Rejection


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as one receive gave it: `handle` is that receive's and dies with its visibility timeout."""

    message_id: str
    body: str
    handle: str
    receive_count: int
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Approximate numbers of messages: waiting, received and not yet deleted, not yet visible for the first time."""

    waiting: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All that the queue holds."""
        return self.waiting + self.in_flight + self.delayed


class EventQueue(ABC):
    """At least once, in no order. A message that is not deleted comes again; one received too often is set aside."""

    @abstractmethod
    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:
        """Return up to `most` messages, waiting for the first up to `wait_seconds`; none may mean an empty queue.

        Raises QueueUnavailable.
        """

    @abstractmethod
    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> tuple[QueuedMessage, ...]:
        """Keep these messages from other workers for `seconds` from now; return those that are not kept from them.

        That is one whose time was up already, one that is deleted, and one that the queue refuses to extend. Raises
        QueueUnavailable.
        """

    @abstractmethod
    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        """Delete these messages; return those that the queue refused to delete: they come again.

        A message that is gone already counts as deleted. Raises QueueUnavailable.
        """

    @abstractmethod
    def depth(self) -> QueueDepth:
        """Return how much the queue holds. Raises QueueUnavailable."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A message that no store takes, as it came, with the reason.

    `held_hash` is what the stores hold of the same sale and `payload_hash` what this one says, where it is a conflict.
    """

    message: QueuedMessage
    rejection: Rejection
    tenant_id: str | None = None
    sale_id: str | None = None
    payload_hash: str | None = None
    held_hash: str | None = None


class QuarantineQueue(ABC):
    """Where a person looks for messages that were not taken. A message may be there twice after a crash."""

    @abstractmethod
    def put(self, entries: Sequence[Quarantined]) -> None:
        """Keep the messages with their reasons; return when all are kept. Raises QueueUnavailable."""
