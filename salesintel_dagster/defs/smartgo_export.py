"""The daily SmartGo export in Dagster: four assets, their checks, the job and the 03:00 UTC schedule.

The four assets are one step that goes day by day, each day from source to commit. So a backfill of 365 days starts
one process per `backfill_days_per_run` days, shows each day green as soon as it is committed, keeps what it has
when it is killed, and lets one bad day fail alone (docs/decisions/0003-one-step-day-by-day.md).
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

import dagster as dg
import pyarrow as pa

from salesintel_dagster import wiring
from salesintel_dagster.defs import describe
from salesintel_dagster.defs.leaving import leaving, teller
from salesintel_dagster.defs.partitions import daily, last_whole_day
from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA, IMAGE_SCHEMA, RAW_SCHEMA, SALES_SCHEMA
from salesintel_dagster.domain.metrics import MetricSink
from salesintel_dagster.domain.ports import Embedder, ImageFetcher, ObjectStore, ProgressLedger, SaleSource, SalesTable
from salesintel_dagster.domain.spend import SpendLedger
from salesintel_dagster.flows.export.backfill import Backfill, DayFailed
from salesintel_dagster.flows.export.day import ExportParts, ExportRules, StageDone
from salesintel_dagster.flows.export.images import ImagesFetched
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS
from salesintel_dagster.flows.export.thumbnails import thumbnails
from salesintel_dagster.settings import Settings

STEP = "smartgo_export"
GROUP = "smartgo_export"
JOB = "smartgo_daily_export"
SCHEDULE = "smartgo_nightly"
SCHEDULE_HOUR_UTC = 3
OWNERS = ("team:data-engineering",)
log = logging.getLogger("salesintel.export")


class ExportConfig(dg.Config):
    """What a person may allow one run to do."""

    allow_empty: bool = False
    """Replace a day that has rows by an empty one, where the source now has none."""
    refetch_images: bool = False
    """Download every image again, also those that are stored already."""


def asset_specs() -> list[dg.AssetSpec]:
    """Return the four assets as the UI describes them: table, grain, who reads it."""
    return [
        _spec(
            SALES_RAW,
            "Validated sales of one day, one row per sale, read from SmartGo's Postgres in one read-only snapshot. "
            "Staged Parquet; read by the three assets after it. Rejected rows lie in the day's quarantine.",
            RAW_SCHEMA,
            {"postgres", "parquet"},
        ),
        _spec(
            PRODUCT_IMAGES,
            "What became of each sale's picture: one manifest row per sale with object key, sha256 and size, or why "
            "there is none. Pictures are kept once per content. Read by titan_embeddings.",
            IMAGE_SCHEMA,
            {"s3", "parquet"},
            deps=[SALES_RAW],
        ),
        _spec(
            TITAN_EMBEDDINGS,
            "One Amazon Titan image vector per sale (1,024 float32), paid for once per distinct picture, or why there "
            "is none. Read by smartgo_sales and by whoever compares pictures.",
            EMBEDDING_SCHEMA,
            {"bedrock", "parquet"},
            deps=[PRODUCT_IMAGES],
        ),
        _spec(
            SMARTGO_SALES,
            "Iceberg table pricing_intelligence.smartgo_sales: one row per sale (tenant_id, sale_id), partitioned by "
            "tenant, year and month; a day is replaced in one commit. Read by pricing analysts (Athena, DuckDB).",
            SALES_SCHEMA,
            {"iceberg", "parquet"},
            deps=[SALES_RAW, PRODUCT_IMAGES, TITAN_EMBEDDINGS],
        ),
    ]


def _spec(key: str, description: str, schema: pa.Schema, kinds: set[str], deps: Sequence[str] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        group_name=GROUP,
        owners=list(OWNERS),
        kinds=kinds,
        metadata={"dagster/column_schema": describe.column_schema(schema)},
    )


def check_specs(settings: Settings, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """Return the checks, partitioned like their assets: each day has its own verdicts."""
    with warnings.catch_warnings():
        # Partitioned asset checks are in preview in 1.13; the warning would greet every start of every process.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                promise.name,
                asset=promise.stage,
                description=promise.description,
                blocking=promise.blocking,
                partitions_def=partitions,
            )
            for promise in promises(settings.embedding_dimension)
        ]


def build(settings: Settings) -> dg.Definitions:
    """Return the export's assets, checks, job and schedule."""
    partitions = daily(settings)
    redact = wiring.redaction(settings)

    @dg.multi_asset(
        name=STEP,
        specs=asset_specs(),
        check_specs=check_specs(settings, partitions),
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(settings.backfill_days_per_run),
        pool=STEP,
    )
    @leaving(redact)
    def smartgo_export(
        context: dg.AssetExecutionContext,
        config: ExportConfig,
        smartgo_db: dg.ResourceParam[SaleSource],
        image_host: dg.ResourceParam[ImageFetcher],
        bedrock: dg.ResourceParam[Embedder],
        analytics: dg.ResourceParam[ObjectStore],
        lakehouse: dg.ResourceParam[SalesTable],
        dynamodb: dg.ResourceParam[ProgressLedger],
        embedding_spend: dg.ResourceParam[SpendLedger],
        cloudwatch: dg.ResourceParam[MetricSink],
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        _refuse_without_day(context)
        backfill = Backfill(
            ExportParts(smartgo_db, image_host, bedrock, analytics, lakehouse),
            _rules(settings, config, embedding_spend),
            dynamodb,
            settings.zone,
            context.run.run_id,
            SYSTEM_CLOCK,
            teller(context, log, redact),
            cloudwatch,
        )
        yield from _events(context, backfill)

    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(smartgo_export),
        description="Source to table for the days asked for: all four assets with their checks.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    return dg.Definitions(assets=[smartgo_export], jobs=[job], schedules=[_schedule(settings)])


def _refuse_without_day(context: dg.AssetExecutionContext) -> None:
    """Tell what to do instead of Dagster's error: `Execute all` of its UI (1.13) launches checks without a day."""
    if not (context.has_partition_key or context.has_partition_key_range):
        raise dg.Failure(
            "This run names no day: Dagster's UI starts checks alone without one. Materialise the day instead, "
            "its checks run with it; nothing is paid for twice.",
            allow_retries=False,
        )


def _rules(settings: Settings, config: ExportConfig, spend: SpendLedger) -> ExportRules:
    return replace(
        wiring.export_rules(settings, spend), allow_empty=config.allow_empty, refetch_images=config.refetch_images
    )


def _events(
    context: dg.AssetExecutionContext, backfill: Backfill
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    days = [date.fromisoformat(key) for key in context.partition_keys]
    stages = frozenset(key.to_user_string() for key in context.selected_asset_keys)
    checks = frozenset(key.name for key in context.selected_asset_check_keys)
    failed: dict[date, DayFailed] = {}
    for day, step in backfill.run(days, stages, checks):
        match step:
            case StageDone():
                yield describe.materialization(step, day, _thumbnails(backfill, step))
            case Verdict():
                yield describe.evaluation(step, day)
            case DayFailed():
                failed[day] = step
    if failed:
        raise dg.Failure(_told(failed, days), allow_retries=False) from next(iter(failed.values())).error


def _thumbnails(backfill: Backfill, step: StageDone) -> tuple[bytes, ...]:
    if not isinstance(step.result, ImagesFetched):
        return ()
    return thumbnails(backfill.parts.store, (key for _, key in step.result.samples))


def _told(failed: dict[date, DayFailed], days: Sequence[date]) -> str:
    reasons = "; ".join(f"{day}: {failure.reason}" for day, failure in failed.items())
    rest = " An outage: the days after it were not tried." if any(f.outage for f in failed.values()) else ""
    again = " ".join(day.isoformat() for day in days if day in failed or (rest and day > max(failed)))
    return f"{len(failed)} of {len(days)} days failed: {reasons}.{rest} Materialise again: {again}"


def _schedule(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=SCHEDULE,
        job_name=JOB,
        cron_schedule=f"0 {SCHEDULE_HOUR_UTC} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="At 03:00 UTC: materialise the newest day that has ended.",
    )
    def smartgo_nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = last_whole_day(context.scheduled_execution_time, settings).isoformat()
        return dg.RunRequest(run_key=f"smartgo-{day}", partition_key=day)

    return smartgo_nightly
