"""What the enrichment works with: its ports, and how much it may do."""

from __future__ import annotations

from dataclasses import dataclass

from salesintel_dagster.domain.enrichment.ports import (
    BatchQueue,
    EnrichmentBatches,
    EnrichmentJobs,
    EnrichmentProvider,
    EnrichmentTable,
    PaidRows,
    TokenLevels,
    UnfinishedJobs,
)
from salesintel_dagster.domain.retry import RetryPolicy

BATCHES_AT_ONCE = 10
"""One receive of SQS, and what one worker holds."""
LEASE_SECONDS = 300
"""As long as a message stays invisible (infrastructure.yaml): who is silent for so long is taken for dead."""
BEATS_A_LEASE = 3
PRODUCT_RETRY = RetryPolicy(retries=8, base_seconds=30.0, deadline_seconds=float("inf"))
STORE_WAIT_SECONDS = 120
"""Between two tries to write what was paid for: each ends a run with an error, and there is no last one."""
RECEIVES_LEFT_ALONE = 2
"""A waiting batch is sent anew so many receives before its message would go to the dead letters."""


@dataclass(frozen=True, slots=True)
class EnrichmentLedger:
    """The status table's five sides."""

    jobs: EnrichmentJobs
    unfinished: UnfinishedJobs
    batches: EnrichmentBatches
    tokens: TokenLevels
    paid: PaidRows


@dataclass(frozen=True, slots=True)
class EnrichmentParts:
    """The ports of a worker."""

    ledger: EnrichmentLedger
    queue: BatchQueue
    provider: EnrichmentProvider
    table: EnrichmentTable


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """How much one worker does at once, and how patient it is.

    `retry` is per product: its first wait doubles with each try; `max_receives` is the queue's maxReceiveCount.
    """

    concurrency: int = 10
    attempts: int = 4
    batches_at_once: int = BATCHES_AT_ONCE
    lease_seconds: int = LEASE_SECONDS
    max_receives: int = 10
    retry: RetryPolicy = PRODUCT_RETRY
