"""Submitting a catalog: first everything is PENDING in the ledger, then it is sent. What dies between is swept up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch
from salesintel_dagster.domain.enrichment.job import Job, batch_size, planned
from salesintel_dagster.domain.enrichment.ports import BatchQueue, EnrichmentBatches
from salesintel_dagster.domain.enrichment.product import CatalogRead
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger


@dataclass(frozen=True, slots=True)
class Submission:
    """Who asks for what; `size` is a chosen batch size, None for what suits the catalog."""

    tenant: str
    catalog_id: str
    user_id: str
    catalog: CatalogRead
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that stands; `unsent` batches are sent by the sweeper, within minutes."""

    job: Job
    is_new: bool
    unsent: int


def submit(asked: Submission, ledger: EnrichmentLedger, queue: BatchQueue, clock: Clock) -> Submitted:
    """Submit a catalog. The same set of products again, or at the same time, is the same job.

    Raises CatalogInvalid, LedgerUnavailable. A queue that is down delays the work and fails nothing.
    """
    products = asked.catalog.products
    job, batches = planned(
        tenant=asked.tenant,
        catalog_id=asked.catalog_id,
        user_id=asked.user_id,
        products=products,
        size=batch_size(len(products), asked.size),
        refused=len(asked.catalog.rejections),
        now=clock.now(),
    )
    standing = ledger.jobs.add(job, batches)
    is_new = standing == job
    waiting = batches if is_new else [one for one in ledger.batches.of_job(standing) if one.sent_at is None]
    try:
        sent = send(waiting, ledger.batches, queue, clock)
    except QueueUnavailable:
        sent = 0
    return Submitted(standing, is_new, len(waiting) - sent)


def send(waiting: Sequence[Batch], batches: EnrichmentBatches, queue: BatchQueue, clock: Clock) -> int:
    """Send batches' messages and note it; return how many the queue took. Raises QueueUnavailable, LedgerUnavailable.

    A message that is sent twice, because the note was lost or a worker was quicker, is answered by the ledger.
    """
    failed = set(queue.send([batch.body for batch in waiting]))
    taken = [batch for position, batch in enumerate(waiting) if position not in failed]
    for batch in taken:
        batches.replace(batch, batch.sent(clock.now()))
    return len(taken)
