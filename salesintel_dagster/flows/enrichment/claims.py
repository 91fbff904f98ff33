"""From messages to batches that are ours: parsed, compared with the ledger, leased. What is not ours goes its way.

The ledger decides and not the message: a message may come twice, late, or for a batch that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch, Lease, State
from salesintel_dagster.domain.enrichment.job import MessageInvalid, parse_message
from salesintel_dagster.domain.enrichment.ports import BatchQueue, EnrichmentBatches
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.parts import RECEIVES_LEFT_ALONE, WorkLimits


@dataclass(frozen=True, slots=True)
class Held:
    """A batch under our lease with the message that brought it; `taken_over` from an owner that fell silent."""

    message: QueuedMessage
    batch: Batch
    taken_over: bool = False


@dataclass(slots=True)
class Claims:
    """One round's claims: what is held, and how many messages went another way."""

    held: list[Held] = field(default_factory=list)
    finished: int = 0
    waiting: int = 0
    poison: int = 0


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
        claims = Claims()
        for message in messages:
            self._claim_one(message, claims)
        return claims

    def _claim_one(self, message: QueuedMessage, claims: Claims) -> None:
        batch = self._batch_of(message)
        now = self.clock.now()
        if batch is None:
            # It comes again at once, and so is soon in the dead letters, where a person sees it.
            claims.poison += 1
            self.queue.extend([message], 0)
        elif batch.is_final:
            claims.finished += 1
            self.queue.delete([message])
        elif (free_at := _free_at(batch, now)) is not None:
            claims.waiting += 1
            self.postpone(message, batch, free_at)
        else:
            lease = Lease(self.new_token(), now + timedelta(seconds=self.limits.lease_seconds))
            claimed = batch.claimed(lease, now)
            if not self.batches.replace(batch, claimed):
                claims.waiting += 1
                self.postpone(message, batch, now + timedelta(seconds=self.limits.lease_seconds))
                return
            silent = any(status.state is State.RUNNING for status in batch.statuses)
            claims.held.append(Held(message, claimed, silent))

    def _batch_of(self, message: QueuedMessage) -> Batch | None:
        """Return the message's batch; None for a message that is none of ours, or not as the ledger has it."""
        try:
            key, _ = parse_message(message.body)
        except MessageInvalid as error:
            self.tell(f"Poison message {message.message_id} left to the dead letters: {error}")
            return None
        batch = self.batches.load(key)
        if batch is None or batch.body != message.body:
            self.tell(f"Message {message.message_id} left to the dead letters: the ledger has no such batch {key}")
            return None
        return batch

    def postpone(self, message: QueuedMessage, batch: Batch, until: datetime) -> None:
        """Let the message come again at `until`; sent anew where it was received too often for waiting only."""
        if message.receive_count >= self.limits.max_receives - RECEIVES_LEFT_ALONE:
            if not self.queue.send([batch.body]):
                self.queue.delete([message])
            return
        self.queue.extend([message], max(1, round((until - self.clock.now()).total_seconds())))

    def keep(self, held: Sequence[Held]) -> list[Held]:
        """Prolong leases and messages; return what is still ours. Raises LedgerUnavailable.

        A message that could not be prolonged comes again and finds its batch held: that is harmless, unlike losing what
        was paid for.
        """
        now = self.clock.now()
        ours: list[Held] = []
        for one in held:
            kept = one.batch.kept(now + timedelta(seconds=self.limits.lease_seconds), now)
            if self.batches.replace(one.batch, kept):
                ours.append(replace(one, batch=kept))
            else:
                self.tell(f"Batch {one.batch.key} was taken over by another worker; what we have of it is dropped")
        try:
            if not_kept := self.queue.extend([one.message for one in ours], self.limits.lease_seconds):
                self.tell(f"{len(not_kept)} of {len(ours)} messages are not prolonged, their leases are")
        except QueueUnavailable as error:
            self.tell(f"{len(ours)} messages are not prolonged, their leases are: {error}")
        return ours


def _free_at(batch: Batch, now: datetime) -> datetime | None:
    """Return when the batch may be worked on, None for now."""
    lease = batch.held_at(now)
    if lease is not None:
        return lease.until
    return batch.not_before if batch.not_before is not None and batch.not_before > now else None
