"""The sync of sold events in Dagster: the asset that drains the queue, and the sensor that starts it.

The sensor reads the queue's attributes alone and asks for one run at a time; the run takes event after event while
they keep coming, so that under steady load nobody waits for a process to start.
"""

import logging
from typing import Any

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs import describe
from salesintel_dagster.defs.leaving import Redact, leaving, teller
from salesintel_dagster.defs.one_run import limit_pool, under_way
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.domain.event_queue import EventQueue
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncTally
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.events import sync_rules

SALES_HISTORY = "sales_history"
GROUP = "carousel"
JOB = "carousel_sync"
POOL = SALES_HISTORY
"""Two runs are safe but gain nothing: one waits for the other's commits."""
TICK_SECONDS = 5
OWNERS = ("team:data-engineering",)
log = logging.getLogger("salesintel.events")


def asset_spec() -> dg.AssetSpec:
    """Return the asset as the UI describes it."""
    return dg.AssetSpec(
        SALES_HISTORY,
        description="Iceberg table pricing_intelligence.sales_history: one row per sale (tenant_id, sale_id) that "
        "Carousel told by an event, within a minute. The same sales are in the DynamoDB sales table. "
        "Read by pricing analysts.",
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"iceberg", "dynamodb", "sqs"},
        metadata={"dagster/column_schema": describe.column_schema(HISTORY_SCHEMA)},
    )


def build(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> dg.Definitions:
    """Return the asset, its job and its sensor."""
    redact = wiring.redaction(settings)

    @dg.multi_asset(name=SALES_HISTORY, specs=[asset_spec()], pool=POOL)
    @leaving(redact)
    def sales_history(
        context: dg.AssetExecutionContext, event_sync: dg.ResourceParam[SyncParts]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares the annotation itself
        began = clock.monotonic()
        drain = EventSync(event_sync, sync_rules(settings), clock, context.run.run_id, teller(context, log, redact))
        try:
            tally = sum(drain.drain(), start=SyncTally())
        except SalesIntelError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        return dg.MaterializeResult(asset_key=SALES_HISTORY, metadata=_metadata(tally, clock.monotonic() - began))

    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(SALES_HISTORY),
        description="Take sold events from the queue into both stores until none come.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    return dg.Definitions(assets=[sales_history], jobs=[job], sensors=[_sensor(redact)])


def _sensor(redact: Redact) -> dg.SensorDefinition:
    @dg.sensor(
        name="carousel_sync_queue",
        job_name=JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run when sold events wait and none is under way. Reads the queue's attributes alone.",
    )
    @leaving(redact)
    def carousel_sync_queue(
        context: dg.SensorEvaluationContext, sold_events: dg.ResourceParam[EventQueue]
    ) -> dg.RunRequest | dg.SkipReason:
        limit_pool(context.instance, POOL)
        try:
            depth = sold_events.depth()
        except SalesIntelError as error:
            return dg.SkipReason(f"The queue cannot be looked at now: {error}.")
        if not depth.waiting:
            return dg.SkipReason(f"No sold event waits; {depth.in_flight + depth.delayed} are in flight.")
        if under_way(context.instance, JOB):
            return dg.SkipReason(f"{depth.waiting} sold events wait for the run that is under way.")
        return dg.RunRequest()

    return carousel_sync_queue


def _metadata(tally: SyncTally, seconds: float) -> dict[str, Any]:
    counts = (
        "received",
        "written",
        "duplicates",
        "superseded",
        "conflicts",
        "quarantined",
        "left",
        "batches",
        "commits",
        "commit_attempts",
    )
    lag = tally.lag_seconds_mean
    lags = {} if lag is None else {"mean": lag, "most": tally.lag_seconds_most}
    months = (f"{month.tenant_id} {month.year}-{month.month:02}" for month in sorted(tally.months))
    return {
        **{name: getattr(tally, name) for name in counts},
        "seconds": round(seconds, 3),
        "months_touched": ", ".join(months),
        **{f"lag_seconds_{name}": round(value, 3) for name, value in lags.items()},
    }
