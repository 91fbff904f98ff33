"""From messages to batches that are ours: parsed, compared with the ledger, leased. What is not ours goes its way.

The ledger decides and not the message: a message may come twice, late, or for a batch that is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch, Lease, ProductStatus, State
from salesintel_dagster.domain.enrichment.ports import BatchQueue, EnrichmentBatches
from salesintel_dagster.domain.enrichment.product import CatalogProduct
from salesintel_dagster.domain.enrichment.rows import Row
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.at_once import at_once, replaced
from salesintel_dagster.flows.enrichment.letters import batch_of
from salesintel_dagster.flows.enrichment.parts import BEATS_A_LEASE, RECEIVES_LEFT_ALONE, WorkLimits
from salesintel_dagster.flows.enrichment.requests import open_products


@dataclass(frozen=True, slots=True)
class Held:
    """A batch under our lease with the message that brought it; `taken_over` from an owner that fell silent.

    `paid` are rows by product that were paid for and not stored; the others of its open products are `wanted`.
    """

    message: QueuedMessage
    batch: Batch
    taken_over: bool = False
    paid: Mapping[str, Row] = field(default_factory=dict)

    @property
    def wanted(self) -> list[tuple[CatalogProduct, ProductStatus]]:
        """The products that the provider is to be asked for."""
        return [(one, status) for one, status in open_products(self.batch) if one.product_id not in self.paid]


class Way(Enum):
    """Where a message goes whose batch is not worked on now."""

    FINISHED = "finished"
    WAITING = "waiting"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Claims:
    """One round's claims: what is held, and how many messages went another way."""

    held: list[Held]
    others: Counter[Way]


@dataclass(frozen=True, slots=True)
class Claimer:
    """Claims batches for one owner and keeps them. `tell` takes log lines."""

    batches: EnrichmentBatches
    queue: BatchQueue
    limits: WorkLimits
    clock: Clock
    new_token: Callable[[], str]
    tell: Callable[[str], None]

    def claim(self, messages: Sequence[QueuedMessage]) -> Claims:
        """Claim what can be claimed. Raises LedgerUnavailable, QueueUnavailable."""
        found = at_once(self.limits.concurrency, self._claim_one, messages)
        return Claims(
            [one for one in found if isinstance(one, Held)], Counter(one for one in found if isinstance(one, Way))
        )

    def _claim_one(self, message: QueuedMessage) -> Held | Way:
        batch = self._batch_of(message)
        now = self.clock.now()
        if batch is None:
            # It comes again at once, and so is soon in the dead letters, where a person sees it.
            self.queue.extend([message], 0)
            return Way.POISON
        if batch.is_final:
            self.queue.delete([message])
            return Way.FINISHED
        if (free_at := _free_at(batch, now)) is not None:
            self.postpone(message, batch, free_at)
            return Way.WAITING
        until = now + timedelta(seconds=self.limits.lease_seconds)
        claimed = batch.claimed(Lease(self.new_token(), until), now)
        if not self.batches.replace(batch, claimed):
            self.postpone(message, batch, until)
            return Way.WAITING
        return Held(message, claimed, taken_over=any(status.state is State.RUNNING for status in batch.statuses))

    def _batch_of(self, message: QueuedMessage) -> Batch | None:
        """Return the message's batch; None for a message that is none of ours, or not as the ledger has it."""
        batch, problem = batch_of(message.body, self.batches)
        if batch is None:
            self.tell(f"Poison message {message.message_id} left to the dead letters: {problem}")
        return batch

    def postpone(self, message: QueuedMessage, batch: Batch, until: datetime) -> None:
        """Let the message come again at `until`; sent anew where it was received too often for waiting only."""
        if message.receive_count >= self.limits.max_receives - RECEIVES_LEFT_ALONE:
            if not self.queue.send([batch.body]):
                self.queue.delete([message])
            return
        self.queue.extend([message], max(1, round((until - self.clock.now()).total_seconds())))

    def hold_back(self, held: Sequence[Held], until: datetime) -> None:
        """Work on none of these before `until`; whoever then takes them over knows as much as we did."""
        for one in held:
            if self.batches.replace(one.batch, kept := one.batch.kept(until, self.clock.now())):
                self.postpone(one.message, kept, until)

    def keep(self, held: Sequence[Held]) -> list[Held]:
        """Prolong leases and messages once a third of their time is over; return what is still ours.

        Before that nobody can have taken a batch over, and a commit of 120 s ends before anybody may. A message that
        could not be prolonged comes again and finds its batch held: that is harmless, unlike losing what was paid for.
        Raises LedgerUnavailable.
        """
        now = self.clock.now()
        due_before = now + timedelta(seconds=self.limits.lease_seconds * (1 - 1 / BEATS_A_LEASE))
        due = [one for one in held if one.batch.lease is None or one.batch.lease.until <= due_before]
        if not due:
            return list(held)
        until = now + timedelta(seconds=self.limits.lease_seconds)
        pairs = [(one.batch, one.batch.kept(until, now)) for one in due]
        written = replaced(self.batches, pairs, self.limits.concurrency)
        after = {kept.key: kept if done else None for (_, kept), done in zip(pairs, written, strict=True)}
        for key, kept in after.items():
            if kept is None:
                self.tell(f"Batch {key} was taken over by another worker; what we have of it is dropped")
        prolonged = [one.message for one in due if after[one.batch.key] is not None]
        try:
            if not_kept := self.queue.extend(prolonged, self.limits.lease_seconds):
                self.tell(f"{len(not_kept)} of {len(prolonged)} messages are not prolonged, their leases are")
        except QueueUnavailable as error:
            self.tell(f"{len(prolonged)} messages are not prolonged, their leases are: {error}")
        states = [(one, after.get(one.batch.key, one.batch)) for one in held]
        return [replace(one, batch=batch) for one, batch in states if batch is not None]


def _free_at(batch: Batch, now: datetime) -> datetime | None:
    """Return when the batch may be worked on, None for now."""
    lease = batch.held_at(now)
    if lease is not None:
        return lease.until
    return batch.not_before if batch.not_before is not None and batch.not_before > now else None
