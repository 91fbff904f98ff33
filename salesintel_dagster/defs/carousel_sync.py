"""The sync of sold events in Dagster: the asset that drains the queue, the sensor that starts it, the one that watches.

The first sensor reads the queue's attributes alone and asks for one run at a time; the run takes event after event
while they keep coming, so that under steady load nobody waits for a process to start. The second records verdicts on
the queues when they change, so that dead letters are told of though no run comes.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs import carousel_metadata, describe, verdicts
from salesintel_dagster.defs.leaving import Redact, leaving, teller
from salesintel_dagster.defs.one_run import Words, asked
from salesintel_dagster.defs.silent_runs import end_silent_runs
from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.column_meanings import HISTORY_MEANINGS
from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.errors import QueueUnavailable, SalesIntelError
from salesintel_dagster.domain.event_queue import EventQueue
from salesintel_dagster.domain.event_queues import EventQueueWatch, OldestAge
from salesintel_dagster.flows.sync.checks import (
    NO_CONFLICT,
    SALES_HISTORY,
    judge_conflicts,
    judge_queues,
    undrained,
    unreachable,
    waiting_since,
)
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncTally
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring.events import sync_rules

GROUP = "carousel"
JOB = "carousel_sync"
WORDS = Words("sold event", "sold events", "in flight")
POOL = SALES_HISTORY
"""Two runs are safe but gain nothing: one waits for the other's commits."""
QUEUE_TICK_SECONDS = 5
"""What the sensor daemon itself takes at the least: docs/decisions/0013-the-sync-in-dagster.md has the numbers."""
WATCH_TICK_SECONDS = 60
OWNERS = ("team:data-engineering",)
log = logging.getLogger("salesintel.events")

Told = dg.MaterializeResult[Any] | dg.AssetObservation | dg.AssetCheckEvaluation


def asset_spec() -> dg.AssetSpec:
    """Return the asset as the UI describes it."""
    return dg.AssetSpec(
        SALES_HISTORY,
        description="Iceberg table pricing_intelligence.sales_history: one row per sale (tenant_id, sale_id) that "
        "Carousel told by an event, within a minute; partitioned by tenant, year and month. The same sales are in the "
        "DynamoDB sales table. Read by pricing analysts (Athena, DuckDB).",
        group_name=GROUP,
        owners=list(OWNERS),
        kinds={"iceberg", "dynamodb", "sqs"},
        metadata={"dagster/column_schema": describe.column_schema(HISTORY_SCHEMA, HISTORY_MEANINGS)},
    )


def build(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> dg.Definitions:
    """Return the asset, its job and its two sensors."""
    redact = wiring.redaction(settings)

    @dg.multi_asset(name=SALES_HISTORY, specs=[asset_spec()], check_specs=verdicts.specs([NO_CONFLICT]), pool=POOL)
    @leaving(redact)
    def sales_history(
        context: dg.AssetExecutionContext,
        event_sync: dg.ResourceParam[SyncParts],
        sold_event_queues: dg.ResourceParam[EventQueueWatch],
    ) -> Iterator[Told]:
        sync = EventSync(event_sync, sync_rules(settings), clock, context.run.run_id, teller(context, log, redact))
        yield from _drained(context, sync, sold_event_queues, settings)

    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(SALES_HISTORY).without_checks()
        | dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(SALES_HISTORY), NO_CONFLICT.name)),
        description="Take sold events from the queue into both stores until none come.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    return dg.Definitions(
        assets=[sales_history],
        jobs=[job],
        sensors=[_queue_sensor(clock, redact), _watch_sensor(settings, clock, redact)],
    )


def _drained(
    context: dg.AssetExecutionContext, sync: EventSync, queues: EventQueueWatch, settings: Settings
) -> Iterator[Told]:
    """Drain, then tell what was done. What was counted before an error, whichever, is told too, as an observation.

    Dagster takes no event from a run that it interrupts: that one's counts are in its log.
    """
    tally, began = SyncTally(), sync.clock.monotonic()
    try:
        for batch in sync.drain():
            tally += batch
    except Exception as error:
        told = carousel_metadata.of_tally(tally, sync.clock.monotonic() - began)
        yield dg.AssetObservation(SALES_HISTORY, metadata=told)
        yield verdicts.evaluation(judge_conflicts(tally))
        if isinstance(error, SalesIntelError):
            raise dg.Failure(str(error), metadata=told, allow_retries=False) from error
        raise
    except BaseException:
        counts = carousel_metadata.of_tally(tally, sync.clock.monotonic() - began)
        sync.log(f"[CarouselSync] Interrupted {' '.join(f'{name}={count}' for name, count in counts.items())}")
        raise
    told = carousel_metadata.of_tally(tally, sync.clock.monotonic() - began)
    conflicts = verdicts.result(judge_conflicts(tally))
    yield dg.MaterializeResult(asset_key=SALES_HISTORY, metadata=told, check_results=[conflicts])
    seen = OldestAge(tally.oldest_seconds, "when the run received it")
    yield from verdicts.after_materialisation(context.instance, judged_queues(queues, settings, seen))


def judged_queues(queues: EventQueueWatch, settings: Settings, *ages: OldestAge) -> list[Verdict]:
    """Return the verdicts on the queues, or the one that says that they cannot be looked at."""
    try:
        return judge_queues(queues.look(), settings.event_gather_seconds, ages)
    except QueueUnavailable as error:
        return [unreachable(error)]


def _queue_sensor(clock: Clock, redact: Redact) -> dg.SensorDefinition:
    @dg.sensor(
        name="carousel_sync_queue",
        job_name=JOB,
        minimum_interval_seconds=QUEUE_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run when sold events wait and none is under way. Reads the queue's attributes alone.",
    )
    @leaving(redact)
    def carousel_sync_queue(
        context: dg.SensorEvaluationContext, sold_events: dg.ResourceParam[EventQueue]
    ) -> dg.RunRequest | dg.SkipReason:
        return asked(context.instance, JOB, POOL, sold_events, clock.now(), WORDS)

    return carousel_sync_queue


def _watch_sensor(settings: Settings, clock: Clock, redact: Redact) -> dg.SensorDefinition:
    # A drain that lives tells of each batch, and waits `event_idle_seconds` for the next one at most.
    silent = timedelta(seconds=settings.event_visibility_seconds + settings.event_idle_seconds)

    @dg.sensor(
        name="carousel_sync_watch",
        minimum_interval_seconds=WATCH_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Every minute: ends drains that died, and judges the queues: dead letters, quarantine, age, "
        "attributes.",
    )
    @leaving(redact)
    def carousel_sync_watch(
        context: dg.SensorEvaluationContext, sold_event_queues: dg.ResourceParam[EventQueueWatch]
    ) -> dg.SensorResult:
        now, cursor = clock.now(), context.cursor
        end_silent_runs(context.instance, JOB, silent, now)
        try:
            states = sold_event_queues.look()
        except QueueUnavailable as error:
            found = [unreachable(error)]
        else:
            before = datetime.fromisoformat(cursor) if cursor else None
            since = waiting_since(states.queue.depth, before, _drained_at(context.instance), now)
            cursor = since.isoformat() if since else ""
            found = judge_queues(states, settings.event_gather_seconds, undrained(since, now))
        changed = verdicts.changed(context.instance, found, first=True)
        told = f"Verdicts that have changed: {verdicts.named(changed)}." if changed else "No verdict has changed."
        return dg.SensorResult(
            asset_events=[verdicts.evaluation(one) for one in changed],
            skip_reason=dg.SkipReason(f"{found[-1].found}. {told}"),
            cursor=cursor,
        )

    return carousel_sync_watch


def _drained_at(instance: dg.DagsterInstance) -> datetime | None:
    """Return when a drain last ended well."""
    found = instance.get_latest_materialization_event(dg.AssetKey(SALES_HISTORY))
    return datetime.fromtimestamp(found.timestamp, UTC) if found else None
