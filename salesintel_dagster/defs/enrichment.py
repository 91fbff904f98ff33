"""Product enrichment in Dagster: the asset that works on the queue, its checks, and the two sensors around it.

One sensor reads the queue's attributes and starts one run at a time; the run drains the queue, ten batches at once.
The other sweeps every minute and keeps the checks true when no run comes: a verdict that has changed is recorded, and
the alerts sensor tells of it like of any other.
"""

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs import describe, verdicts
from salesintel_dagster.defs.enrichment_metadata import metadata
from salesintel_dagster.defs.leaving import Redact, leaving, teller
from salesintel_dagster.defs.one_run import Words, asked
from salesintel_dagster.defs.silent_runs import end_silent_runs
from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.column_meanings import ENRICHMENT_MEANINGS
from salesintel_dagster.domain.enrichment.ports import BatchQueue, EnrichmentProvider, EnrichmentTable
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA, PRODUCT_ENRICHMENT
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.flows.enrichment.checks import PROMISES, JobBatches, of_jobs, of_providers, of_queues
from salesintel_dagster.flows.enrichment.parts import LEASE_SECONDS, EnrichmentLedger, EnrichmentParts
from salesintel_dagster.flows.enrichment.sweep import Swept, sweep
from salesintel_dagster.flows.enrichment.work import Worker
from salesintel_dagster.settings import Mode, Settings
from salesintel_dagster.wiring.enrichment import work_limits

GROUP = "enrichment"
JOB = "product_enrichment_job"
WORDS = Words("batch", "batches", "at work or postponed")
POOL = PRODUCT_ENRICHMENT
"""One run holds ten batches; two runs would hold twenty."""
DRAIN_SECONDS = 3600.0
POLL_SECONDS = 5.0
"""A run waits so long for the next batch before it ends: a start costs 5 CPU-s, a poll nothing."""
QUEUE_TICK_SECONDS = 15
WATCH_TICK_SECONDS = 60
SILENT = timedelta(seconds=LEASE_SECONDS + 60)
"""A worker that lives says something every round, or keeps a lease alive."""
OWNERS = ("team:data-engineering",)
log = logging.getLogger("salesintel.enrichment")


def asset_spec() -> dg.AssetSpec:
    """Return the asset as the UI describes it."""
    return dg.AssetSpec(
        PRODUCT_ENRICHMENT,
        description="Iceberg table pricing_intelligence.product_enrichment: one row per product of an uploaded catalog "
        "(tenant_id, product_id) with the provider's facts: title, brand, category, prices, sales rank, images. "
        "Written batch by batch from the queue; a later row replaces an earlier one. Read by pricing analysts.",
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"iceberg", "parquet", "sqs"},
        metadata={"dagster/column_schema": describe.column_schema(ENRICHMENT_SCHEMA, ENRICHMENT_MEANINGS)},
    )


def build(settings: Settings, clock: Clock = SYSTEM_CLOCK, *, poll_seconds: float = POLL_SECONDS) -> dg.Definitions:
    """Return the asset, its checks, its job and its sensors."""
    redact = wiring.redaction(settings)

    @dg.multi_asset(
        name=PRODUCT_ENRICHMENT,
        specs=[asset_spec()],
        check_specs=verdicts.specs(PROMISES),
        pool=POOL,
    )
    @leaving(redact)
    def product_enrichment(
        context: dg.AssetExecutionContext,
        enrichment_ledger: dg.ResourceParam[EnrichmentLedger],
        enrichment_queue: dg.ResourceParam[BatchQueue],
        enrichment_dead_letters: dg.ResourceParam[BatchQueue],
        keepa: dg.ResourceParam[EnrichmentProvider],
        enrichment_table: dg.ResourceParam[EnrichmentTable],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares the annotation itself
        parts = EnrichmentParts(enrichment_ledger, enrichment_queue, keepa, enrichment_table)
        began = clock.monotonic()
        try:
            sweep(enrichment_ledger, enrichment_queue, clock)
            rounds = list(_worker(context, parts, settings, clock, redact).drain(_seconds(settings), poll_seconds))
            swept = sweep(enrichment_ledger, enrichment_queue, clock)
            judged = _judged(swept, enrichment_queue, enrichment_dead_letters, settings, clock)
            judged.append(of_providers(enrichment_table.provider_counts(), embedded=settings.mode is Mode.EMBEDDED))
        except SalesIntelError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        level = enrichment_ledger.tokens.last(keepa.name)
        facts = metadata(rounds, level, clock.now(), clock.monotonic() - began)
        return dg.MaterializeResult(
            asset_key=PRODUCT_ENRICHMENT,
            metadata={"provider": keepa.name, **facts},
            check_results=[verdicts.result(found) for found in judged],
        )

    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(PRODUCT_ENRICHMENT),
        description="Work on the batches that wait, ten at once, until the queue is empty.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    return dg.Definitions(
        assets=[product_enrichment],
        jobs=[job],
        sensors=[_queue_sensor(clock, redact), _watch_sensor(settings, clock, redact)],
    )


def _worker(
    context: dg.AssetExecutionContext, parts: EnrichmentParts, settings: Settings, clock: Clock, redact: Redact
) -> Worker:
    run_id = context.run.run_id
    return Worker(
        parts,
        work_limits(settings),
        run_id=run_id,
        new_token=lambda: f"{run_id}/{uuid.uuid4().hex}",
        clock=clock,
        tell=teller(context, log, redact),
    )


def _seconds(settings: Settings) -> float:
    return min(DRAIN_SECONDS, settings.run_max_seconds / 2)


def _judged(
    swept: Swept, queue: BatchQueue, dead_letters: BatchQueue, settings: Settings, clock: Clock
) -> list[Verdict]:
    return [
        *of_jobs(swept.jobs, settings.enrichment_error_share, clock.now()),
        *of_queues(queue.depth(), dead_letters.depth()),
    ]


def _queue_sensor(clock: Clock, redact: Redact) -> dg.SensorDefinition:
    @dg.sensor(
        name="product_enrichment_queue",
        job_name=JOB,
        minimum_interval_seconds=QUEUE_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run when batches wait and none is under way. Reads the queue's attributes alone.",
    )
    @leaving(redact)
    def product_enrichment_queue(
        context: dg.SensorEvaluationContext, enrichment_queue: dg.ResourceParam[BatchQueue]
    ) -> dg.RunRequest | dg.SkipReason:
        return asked(context.instance, JOB, POOL, enrichment_queue, clock.now(), WORDS)

    return product_enrichment_queue


def _watch_sensor(settings: Settings, clock: Clock, redact: Redact) -> dg.SensorDefinition:
    @dg.sensor(
        name="product_enrichment_watch",
        minimum_interval_seconds=WATCH_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Every minute: sends what was accepted and not sent, closes jobs that are done, ends runs that "
        "died, and records the checks of jobs and queues whose verdict has changed.",
    )
    @leaving(redact)
    def product_enrichment_watch(
        context: dg.SensorEvaluationContext,
        enrichment_ledger: dg.ResourceParam[EnrichmentLedger],
        enrichment_queue: dg.ResourceParam[BatchQueue],
        enrichment_dead_letters: dg.ResourceParam[BatchQueue],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            swept = sweep(enrichment_ledger, enrichment_queue, clock)
            end_silent_runs(context.instance, JOB, SILENT, clock.now(), _holders(swept.jobs, clock.now()))
            judged = _judged(swept, enrichment_queue, enrichment_dead_letters, settings, clock)
        except SalesIntelError as error:
            return dg.SkipReason(f"Enrichment cannot be judged now: {error}.")
        changed = verdicts.changed(context.instance, judged)
        if not changed:
            return dg.SkipReason(f"{len(swept.jobs)} jobs are open, {swept.sent} batches sent; no verdict has changed.")
        return dg.SensorResult(
            asset_events=[verdicts.evaluation(found) for found in changed],
            skip_reason=dg.SkipReason(f"Verdicts that have changed: {verdicts.named(changed)}."),
        )

    return product_enrichment_watch


def _holders(jobs: Sequence[JobBatches], now: datetime) -> set[str]:
    """Return the ids of the runs that hold a lease now: an owner's name begins with its run's id."""
    leases = (batch.held_at(now) for one in jobs for batch in one.batches)
    return {lease.owner.partition("/")[0] for lease in leases if lease is not None}
