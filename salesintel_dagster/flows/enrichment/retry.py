"""A person's retry of a catalog: failed products are PENDING again, and dead letters of the catalog come back.

The order keeps everything recoverable: the job is open again first, then its batches, then the job once more (a sweep
that came before the first batch has closed it), then they are sent, and a dead letter goes only after its batch has a
new message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.batch import Batch, State
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.ports import BatchQueue
from salesintel_dagster.domain.event_queue import QueuedMessage
from salesintel_dagster.flows.enrichment.parts import EnrichmentLedger
from salesintel_dagster.flows.enrichment.submit import send

MOST_DEAD_LETTERS = 1_000
"""Looked at in one retry; more are taken by the next."""
HOLD_SECONDS = 120
LONG_POLL_SECONDS = 1
"""Asks every server of SQS: a receive that does not wait may find nothing where something is."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry set going again of one job; `outlived` dead letters of batches that are done were deleted."""

    job: Job
    products: int
    batches: int
    dead_letters: int
    outlived: int
    unsent: int

    @property
    def is_something(self) -> bool:
        """Tell whether there was anything to do."""
        return bool(self.batches or self.dead_letters or self.outlived)


def retry(
    jobs: Sequence[Job], ledger: EnrichmentLedger, queue: BatchQueue, dead_letters: BatchQueue, clock: Clock
) -> list[Retried]:
    """Try the failed, dead and forgotten products of jobs again; return what was done, job by job.

    Raises LedgerUnavailable, QueueUnavailable.
    """
    with _in_hand(dead_letters) as letters:
        retrying = _Retrying(ledger, queue, dead_letters, clock, letters)
        return [retrying.job(job) for job in jobs]


@dataclass(frozen=True, slots=True)
class _Retrying:
    """One retry; `letters` are the dead letters in hand, by body."""

    ledger: EnrichmentLedger
    queue: BatchQueue
    dead_letters: BatchQueue
    clock: Clock
    letters: dict[str, list[QueuedMessage]]

    def job(self, job: Job) -> Retried:
        batches = self.ledger.batches.of_job(job)
        reopened = self._reopened(job, batches)
        sent = send(reopened, self.ledger.batches, self.queue, self.clock) if reopened else 0
        back = self._letters_of(reopened) if sent == len(reopened) else []
        outlived = self._letters_of(batch for batch in batches if _is_done(batch))
        self.dead_letters.delete([*back, *outlived])
        products = sum(status.state is not State.DONE for batch in reopened for status in batch.statuses)
        return Retried(job, products, len(reopened), len(back), len(outlived), len(reopened) - sent)

    def _reopened(self, job: Job, batches: Iterable[Batch]) -> list[Batch]:
        now = self.clock.now()
        again = [batch for batch in batches if batch.held_at(now) is None and self._is_stuck(batch)]
        if not again:
            return []
        self.ledger.unfinished.reopen(job, now)
        pairs = [(batch, batch.reopened(now)) for batch in again]
        reopened = [after for batch, after in pairs if self.ledger.batches.replace(batch, after)]
        self.ledger.unfinished.reopen(job, self.clock.now())
        return reopened

    def _is_stuck(self, batch: Batch) -> bool:
        """Tell whether it goes on only, or sooner, if it is helped; one sent and never tried is on its way."""
        if batch.is_final:
            return not _is_done(batch)
        return batch.state is not State.PENDING or batch.sent_at is None or batch.body in self.letters

    def _letters_of(self, batches: Iterable[Batch]) -> list[QueuedMessage]:
        """Take these batches' letters out of the hand."""
        return [letter for batch in batches for letter in self.letters.pop(batch.body, [])]


def _is_done(batch: Batch) -> bool:
    return all(status.state is State.DONE for status in batch.statuses)


@contextmanager
def _in_hand(dead_letters: BatchQueue) -> Iterator[dict[str, list[QueuedMessage]]]:
    """Hold the dead letters, and let those be seen again at once that are still held at the end."""
    held: defaultdict[str, list[QueuedMessage]] = defaultdict(list)
    seen = 0
    try:
        while seen < MOST_DEAD_LETTERS and (messages := dead_letters.receive(10, LONG_POLL_SECONDS)):
            dead_letters.extend(messages, HOLD_SECONDS)
            seen += len(messages)
            for message in messages:
                held[message.body].append(message)
        yield held
    finally:
        dead_letters.extend([message for same in held.values() for message in same], 0)
