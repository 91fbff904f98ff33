"""Sweeping: what was accepted and never sent is sent, what expired in the queue is sent again, done jobs are closed.

A message that is in the queue, or in the dead letters, is left there: a batch that no worker survives must not come
back by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch
from salesintel_dagster.domain.enrichment.ports import BatchQueue
from salesintel_dagster.flows.enrichment.checks import JobBatches
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
from salesintel_dagster.flows.enrichment.submit import send

GRACE = timedelta(seconds=60)
"""A submission that is under way sends its own messages."""
QUEUE_RETENTION = timedelta(days=4)
"""infrastructure.yaml: after this no queue holds the message any more."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did, and the jobs as it found them, also those that it closed."""

    sent: int
    closed: int
    jobs: tuple[JobBatches, ...]


def sweep(ledger: EnrichmentLedger, queue: BatchQueue, clock: Clock) -> Swept:
    """Go over the open jobs. Raises LedgerUnavailable, QueueUnavailable."""
    sent = closed = 0
    jobs: list[JobBatches] = []
    for opened in ledger.unfinished.all():
        batches = ledger.batches.of_job(opened.job)
        jobs.append(JobBatches(opened.job, tuple(batches)))
        if len(batches) == opened.job.batches and all(batch.is_final for batch in batches):
            ledger.unfinished.close(opened)
            closed += 1
            continue
        lost = [batch for batch in batches if not batch.is_final and is_lost(batch, clock.now())]
        sent += send(lost, ledger.batches, queue, clock) if lost else 0
    return Swept(sent, closed, tuple(jobs))


def is_lost(batch: Batch, now: datetime) -> bool:
    """Tell whether no queue can hold the batch's message. Whoever holds it has its message."""
    if batch.held_at(now) is not None:
        return False
    if batch.sent_at is None:
        return now - batch.updated_at > GRACE
    return now - batch.sent_at > QUEUE_RETENTION
