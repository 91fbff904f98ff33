"""What the enrichment promises, and whether it holds: pure rules over jobs, queues and the table's providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from salesintel_dagster.domain.checks import Promise, Severity, Verdict, share_verdict, verdict
from salesintel_dagster.domain.enrichment.batch import Batch, State, counts
from salesintel_dagster.domain.enrichment.job import Job
from salesintel_dagster.domain.enrichment.rows import PRODUCT_ENRICHMENT
from salesintel_dagster.domain.event_queue import QueueDepth

LONGEST_BATCH = timedelta(minutes=10)
DEEPEST_QUEUE = 100
ERROR_SHARE = 0.5
"""Share of failed products that is an ERROR; a WARN begins at the setting."""
LOCAL = "local-"
"""How the names of stand-ins begin."""


def _promise(name: str, description: str) -> Promise:
    return Promise(name, PRODUCT_ENRICHMENT, description)


STATES_ADD_UP = _promise(
    "states_add_up", "Of every job at work the products in all states together are the products that were submitted."
)
SUCCESS_SHARE = _promise("success_share", "Of the products that are done or failed not too many have failed.")
PROVIDER_IS_NAMED = _promise(
    "provider_is_named", "Every row names its provider, and outside the embedded world none is a stand-in's."
)
NO_STALE_RUNNING = _promise("no_stale_running", "No batch is RUNNING under a lease that ended ten minutes ago.")
NO_LONG_BATCH = _promise("no_batch_takes_long", "Every batch is done within ten minutes of its first try.")
QUEUE_IS_SHORT = _promise("queue_is_short", "At most 100 batches wait in the queue.")
NO_DEAD_LETTERS = _promise("no_dead_letters", "No batch was received so often that its message was set aside.")

PROMISES = (
    STATES_ADD_UP,
    SUCCESS_SHARE,
    PROVIDER_IS_NAMED,
    NO_STALE_RUNNING,
    NO_LONG_BATCH,
    QUEUE_IS_SHORT,
    NO_DEAD_LETTERS,
)


@dataclass(frozen=True, slots=True)
class JobBatches:
    """A job with its batches."""

    job: Job
    batches: tuple[Batch, ...]


def of_jobs(jobs: Sequence[JobBatches], warn_share: float, now: datetime) -> list[Verdict]:
    """Judge jobs: sums, failures, leases that ended, batches that take long."""
    batches = [batch for one in jobs for batch in one.batches]
    return [
        _states(jobs),
        _success(batches, warn_share),
        _stale(batches, now),
        _long(batches, now),
    ]


def of_queues(queue: QueueDepth, dead_letters: QueueDepth) -> list[Verdict]:
    """Judge the queue's depth and its dead letters."""
    deep = queue.waiting > DEEPEST_QUEUE
    return [
        Verdict(
            QUEUE_IS_SHORT,
            passed=not deep,
            severity=Severity.WARN,
            expected=f"at most {DEEPEST_QUEUE} batches waiting",
            found=f"{queue.waiting} waiting, {queue.in_flight} at work or postponed",
            facts={"waiting": queue.waiting, "in_flight": queue.in_flight},
        ),
        Verdict(
            NO_DEAD_LETTERS,
            passed=dead_letters.total == 0,
            severity=Severity.ERROR,
            expected="no message",
            found=f"{dead_letters.total} messages",
            facts={"messages": dead_letters.total},
        ),
    ]


def of_providers(rows_by_provider: Mapping[str, int], *, embedded: bool) -> Verdict:
    """Judge who the rows say they are from."""
    wrong = [name or "(none)" for name in rows_by_provider if not name or (name.startswith(LOCAL) and not embedded)]
    told = ", ".join(f"{name or '(none)'} {count}" for name, count in sorted(rows_by_provider.items())) or "no row"
    expected = "a provider in every row" + ("" if embedded else ", none of them a stand-in")
    return verdict(PROVIDER_IS_NAMED, expected=expected, found=told, offenders=wrong)


def _states(jobs: Sequence[JobBatches]) -> Verdict:
    wrong = [
        f"{one.job.catalog_id}/{one.job.job_id}: {found} of {one.job.products}"
        for one in jobs
        if (found := sum(counts(one.batches).values())) != one.job.products
    ]
    products = sum(one.job.products for one in jobs)
    return verdict(
        STATES_ADD_UP,
        expected=f"{products} products in {len(jobs)} jobs",
        found=f"{len(wrong)} jobs whose states do not add up" if wrong else "the same in all states together",
        offenders=wrong,
    )


def _success(batches: Sequence[Batch], warn_share: float) -> Verdict:
    found = counts(batches)
    failed = sum(count for name, count in found.items() if name.startswith(State.FAILED))
    return share_verdict(
        SUCCESS_SHARE,
        part=failed,
        whole=failed + found[State.DONE],
        warn_share=warn_share,
        error_share=max(warn_share, ERROR_SHARE),
    )


def _stale(batches: Sequence[Batch], now: datetime) -> Verdict:
    stale = [
        str(batch.key)
        for batch in batches
        if batch.state is State.RUNNING and (batch.lease is None or now - batch.lease.until > LONGEST_BATCH)
    ]
    return verdict(NO_STALE_RUNNING, expected="no such batch", found=f"{len(stale)} batches", offenders=stale)


def _long(batches: Sequence[Batch], now: datetime) -> Verdict:
    long = [
        str(batch.key)
        for batch in batches
        if batch.started_at is not None and (batch.finished_at or now) - batch.started_at > LONGEST_BATCH
    ]
    return verdict(
        NO_LONG_BATCH,
        expected=f"at most {LONGEST_BATCH.total_seconds() / 60:.0f} minutes",
        found=f"{len(long)} batches took longer",
        offenders=long,
        severity=Severity.WARN,
    )
