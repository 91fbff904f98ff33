"""A person's retry of a catalog: failed products are PENDING again, and dead letters of the catalog come back.

The order keeps everything recoverable: the job is open again first, then its batches, then they are sent, and a dead
letter goes only after its batch has a new message.
"""

from __future__ import annotations

from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch, State
from salesintel_dagster.domain.enrichment.job import Job, MessageInvalid, parse_message
from salesintel_dagster.domain.enrichment.ports import BatchQueue
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
from salesintel_dagster.flows.enrichment.submit import send

MOST_DEAD_LETTERS = 1_000
"""Looked at in one retry; more are taken by the next."""
HOLD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry set going again."""

    products: int
    batches: int
    dead_letters: int
    unsent: int


def retry(job: Job, ledger: EnrichmentLedger, queue: BatchQueue, dead_letters: BatchQueue, clock: Clock) -> Retried:
    """Try a job's failed, dead and forgotten products again. Raises LedgerUnavailable, QueueUnavailable."""
    letters = _letters_of(job, dead_letters)
    dead = {message.body for message in letters}
    now = clock.now()
    again = [
        batch
        for batch in ledger.batches.of_job(job)
        if batch.held_at(now) is None and (not batch.is_final or _failed(batch) or batch.body in dead)
    ]
    reopened: list[Batch] = []
    if again:
        ledger.unfinished.reopen(job, now)
    for batch in again:
        after = batch.reopened(now)
        if not after.is_final and ledger.batches.replace(batch, after):
            reopened.append(after)
    sent = send(reopened, ledger.batches, queue, clock) if reopened else 0
    if sent == len(reopened):
        dead_letters.delete(letters)
    products = sum(status.state is not State.DONE for batch in reopened for status in batch.statuses)
    return Retried(products, len(reopened), len(letters), len(reopened) - sent)


def _failed(batch: Batch) -> bool:
    return any(status.state is State.FAILED for status in batch.statuses)


def _letters_of(job: Job, dead_letters: BatchQueue) -> list[QueuedMessage]:
    """Receive the dead letters, let those of other jobs be seen again at once, and return this job's."""
    ours: list[QueuedMessage] = []
    others: list[QueuedMessage] = []
    seen = 0
    while seen < MOST_DEAD_LETTERS and (messages := dead_letters.receive(10, 0)):
        dead_letters.extend(messages, HOLD_SECONDS)
        for message in messages:
            (ours if _is_of(job, message) else others).append(message)
        seen += len(messages)
    dead_letters.extend(others, 0)
    return ours


def _is_of(job: Job, message: QueuedMessage) -> bool:
    try:
        key, _ = parse_message(message.body)
    except MessageInvalid:
        return False
    return (key.tenant, key.catalog_id, key.plan) == (job.tenant, job.catalog_id, job.plan)
