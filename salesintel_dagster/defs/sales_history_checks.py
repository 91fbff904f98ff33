"""The dear checks of `sales_history` in Dagster, once a day, and the repair of what they find, started by hand.

The cheap ones, on the queues, are judged by whoever drains and watches (`carousel_sync`), who tells of them once; here
they are for a person who wants to know now. What waits for a person is told again each day: SQS drops it after 14 days.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
from pydantic import Field

from salesintel_dagster import wiring
from salesintel_dagster.defs import verdicts
from salesintel_dagster.defs.carousel_sync import judged_queues
from salesintel_dagster.defs.leaving import Redact, leaving
from salesintel_dagster.domain.checks import MAX_OFFENDERS_NAMED, Promise
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import SalesIntelError, SettingInvalid
from salesintel_dagster.domain.event_queues import EventQueueWatch
from salesintel_dagster.domain.history_facts import HistoryFacts, days_to_check
from salesintel_dagster.domain.reconciliation import DayComparison
from salesintel_dagster.flows.sync.checks import DEAD_LETTERS_EMPTY, OF_QUEUES, QUARANTINE_EMPTY, judge_table, of_table
from salesintel_dagster.flows.sync.reconcile import Reconciliation
from salesintel_dagster.settings import Settings

QUEUE_CHECKS = "sales_history_queue_checks"
TABLE_CHECKS = "sales_history_table_checks"
JOB = "sales_history_reconcile"
REPAIR_JOB = "sales_history_repair"
REPAIR_STEP = "repair_sales_history"
"""Not the job's name: in one repository an op and a job may not share theirs."""
SCHEDULE_HOUR_UTC = 6
MOST_DAYS = 31


class RepairConfig(dg.Config):
    """Which days one repair compares, and whether it changes anything."""

    days: list[str] = Field(description="Days of sale, e.g. 2026-11-20; at most 31")
    dry_run: bool = Field(default=True, description="Only tell what differs")


def build(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> dg.Definitions:
    """Return the checks, the daily job with its schedule, and the repair job."""
    redact = wiring.redaction(settings)

    @dg.multi_asset_check(name=QUEUE_CHECKS, specs=verdicts.specs(OF_QUEUES), can_subset=True)
    @leaving(redact)
    def queue_checks(
        context: dg.AssetCheckExecutionContext, sold_event_queues: dg.ResourceParam[EventQueueWatch]
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        found = judged_queues(sold_event_queues, settings)
        if len(found) < len(OF_QUEUES):
            raise dg.Failure(found[0].found, allow_retries=False)
        yield from (verdicts.result(one) for one in found if one.promise.name in wanted)

    @dg.multi_asset_check(
        name=TABLE_CHECKS, specs=verdicts.specs(of_table(settings.embedding_dimension)), can_subset=True
    )
    @leaving(redact)
    def table_checks(
        context: dg.AssetCheckExecutionContext,
        history_facts: dg.ResourceParam[HistoryFacts],
        reconciliation: dg.ResourceParam[Reconciliation],
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        days = days_to_check(clock.now().astimezone(settings.zone).date(), clock.jitter())
        told = {"days": ", ".join(day.isoformat() for day in days)}
        context.log.info("days=%s tenants=%s", told["days"], ", ".join(sorted(settings.tenants_of_events)))
        try:
            found = judge_table(
                history_facts, reconciliation, settings.tenants_of_events, days, settings.embedding_dimension
            )
        except SalesIntelError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        yield from (verdicts.result(one, told) for one in found if one.promise.name in wanted)

    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.checks(
            table_checks, *(_key(one) for one in (DEAD_LETTERS_EMPTY, QUARANTINE_EMPTY))
        ),
        description="Compare sales_history with the sales table over 7 days and one older one; unique ids, vectors, "
        "sales that smartgo_sales has too; what still waits in dead letters and quarantine.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    return dg.Definitions(
        asset_checks=[queue_checks, table_checks], jobs=[job, _repair_job(settings, redact)], schedules=[_schedule()]
    )


def _key(promise: Promise) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(dg.AssetKey(promise.stage), promise.name)


def _schedule() -> dg.ScheduleDefinition:
    @dg.schedule(
        name="sales_history_reconcile_daily",
        job_name=JOB,
        cron_schedule=f"0 {SCHEDULE_HOUR_UTC} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="At 06:00 UTC: are both stores the same?",
    )
    def sales_history_reconcile_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(run_key=f"reconcile-{context.scheduled_execution_time.date().isoformat()}")

    return sales_history_reconcile_daily


def _repair_job(settings: Settings, redact: Redact) -> dg.JobDefinition:
    @dg.op(name=REPAIR_STEP)
    @leaving(redact)
    def repair_sales_history(
        context: dg.OpExecutionContext, config: RepairConfig, reconciliation: dg.ResourceParam[Reconciliation]
    ) -> None:
        try:
            compared = reconciliation.compare(settings.tenants_of_events, _days(config.days))
            differing = [found for found in compared if found.differences]
            for found in differing:
                context.log.info("%s", _line(found))
            done = [reconciliation.repair(found, context.run.run_id) for found in differing if not config.dry_run]
        except SalesIntelError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        left = [sale_id for one in done for sale_id in one.left]
        context.add_output_metadata(
            {
                "dry_run": config.dry_run,
                "days_compared": len(compared),
                "differences": sum(found.differences for found in differing),
                "to_table": sum(one.to_table for one in done),
                "to_ledger": sum(one.to_ledger for one in done),
                "left": len(left),
                "left_named": ", ".join(left[:MAX_OFFENDERS_NAMED]),
            }
        )

    @dg.job(
        name=REPAIR_JOB,
        description="Gives sales_history and the sales table what either lacks of some days. Changes nothing unless "
        "dry_run is false.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    def repair_job() -> None:
        repair_sales_history()

    return repair_job


def _days(texts: Sequence[str]) -> list[date]:
    """Return the days. Raises SettingInvalid naming what is none."""
    if not 1 <= len(texts) <= MOST_DAYS:
        raise SettingInvalid(f"days: {len(texts)}, expected 1 to {MOST_DAYS}")
    try:
        return [date.fromisoformat(text) for text in texts]
    except ValueError as error:
        raise SettingInvalid(f"days: {error}; expected e.g. 2026-11-20") from error


def _line(found: DayComparison) -> str:
    named = found.offenders()
    rest = f" and {len(named) - MAX_OFFENDERS_NAMED} more" if len(named) > MAX_OFFENDERS_NAMED else ""
    return f"{found.tenant_id} {found.day} differs: {'; '.join(named[:MAX_OFFENDERS_NAMED])}{rest}"
