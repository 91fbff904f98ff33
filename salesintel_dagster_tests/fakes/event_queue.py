"""The event queue, its quarantine and the receipts in memory, with failures on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import QueueUnavailable, ReceiptsUnavailable
from salesintel_dagster.domain.event_queue import EventQueue, Quarantined, QuarantineQueue, QueueDepth, QueuedMessage
from salesintel_dagster.domain.receipts import RECEIPT_RETENTION, Receipt, Receipts
from salesintel_dagster.domain.sale_event import SaleIdentity

MOST = 10


@dataclass(slots=True)
class _Held:
    message_id: str
    body: str
    receives: int = 0
    handle: str = ""
    visible_at: float = 0.0


@dataclass(slots=True)
class InMemoryEventQueue(EventQueue):
    """`messages` are those that were not deleted; `refused` ids come back from `delete` and `extend` as SQS's
    `Failed` do.

    `extended` lists (message id, seconds); `fail(n)` makes the next n calls raise.
    """

    visibility_seconds: int = 30
    clock: Clock = SYSTEM_CLOCK
    messages: list[_Held] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    extended: list[tuple[str, int]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    _sent: int = 0

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self._sent += 1
            self.messages.append(_Held(f"m-{self._sent}", body))

    def fail(self, operation: str, times: int = 1) -> None:
        self.failures[operation] = times

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:  # noqa: ARG002 - nobody else sends
        self._check("receive")
        now = self.clock.monotonic()
        visible = [one for one in self.messages if one.visible_at <= now][: min(most, MOST)]
        for one in visible:
            one.receives += 1
            one.handle = f"{one.message_id}-{one.receives}"
            one.visible_at = now + self.visibility_seconds
        sent_at = datetime(2026, 11, 3, 12, 0, 6, tzinfo=UTC)
        return [QueuedMessage(one.message_id, one.body, one.handle, one.receives, sent_at) for one in visible]

    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> tuple[QueuedMessage, ...]:
        self._check("extend")
        not_kept = []
        for one in messages:
            held = self._find(one)
            if held is None or one.message_id in self.refused:
                not_kept.append(one)
                continue
            self.extended.append((one.message_id, seconds))
            held.visible_at = self.clock.monotonic() + seconds
        return tuple(not_kept)

    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        self._check("delete")
        for one in messages:
            held = self._find(one)
            if held is not None and one.message_id not in self.refused:
                self.messages.remove(held)
                self.deleted.append(one.message_id)
        return tuple(one for one in messages if one.message_id in self.refused)

    def depth(self) -> QueueDepth:
        self._check("depth")
        waiting = sum(1 for one in self.messages if one.visible_at <= self.clock.monotonic())
        return QueueDepth(waiting, len(self.messages) - waiting, 0)

    def show_again(self) -> None:
        """Let every visibility timeout end now."""
        for one in self.messages:
            one.visible_at = 0.0

    def _find(self, message: QueuedMessage) -> _Held | None:
        return next((one for one in self.messages if one.handle == message.handle), None)

    def _check(self, operation: str) -> None:
        if self.failures.get(operation, 0):
            self.failures[operation] -= 1
            raise QueueUnavailable(f"{operation}: the queue is down")


@dataclass(slots=True)
class InMemoryQuarantine(QuarantineQueue):
    """`entries` is what was put; `down = True` makes every put fail."""

    entries: list[Quarantined] = field(default_factory=list)
    down: bool = False

    def put(self, entries: Sequence[Quarantined]) -> None:
        if self.down:
            raise QueueUnavailable("the quarantine is down")
        self.entries += entries

    @property
    def codes(self) -> list[str]:
        return [entry.rejection.code for entry in self.entries]


@dataclass(slots=True)
class InMemoryReceipts(Receipts):
    """`written` is every receipt with the instant of its writing; `failures` are the operations that raise next.

    `ending`, of no kind of ours, is what a look raises once there is a receipt.
    """

    clock: Clock = SYSTEM_CLOCK
    written: dict[SaleIdentity, tuple[Receipt, datetime]] = field(default_factory=dict)
    failures: deque[str] = field(default_factory=deque)
    ending: type[BaseException] | None = None

    def get(self, identities: Collection[SaleIdentity]) -> Mapping[SaleIdentity, Receipt]:
        self._check("get")
        if self.ending is not None and self.written:
            raise self.ending
        held = {identity: self.written[identity] for identity in identities if identity in self.written}
        now = self.clock.now()
        return {name: receipt for name, (receipt, at) in held.items() if at + RECEIPT_RETENTION > now}

    def put(self, receipts: Collection[Receipt]) -> None:
        self._check("put")
        self.written.update({receipt.identity: (receipt, self.clock.now()) for receipt in receipts})

    def forget(self, identities: Collection[SaleIdentity]) -> None:
        self._check("forget")
        for identity in identities:
            self.written.pop(identity, None)

    def _check(self, operation: str) -> None:
        if self.failures and self.failures[0] == operation:
            self.failures.popleft()
            raise ReceiptsUnavailable(f"{operation}: the receipts table is down")
