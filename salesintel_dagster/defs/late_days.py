"""The sensors that keep the export whole: gaps after downtime, rows that came late, runs that died.

Each is a plan of `domain.late_days` and a shell. The first and the third ask the instance and the progress table; only
the second asks source and table, and only until a night's comparison has found nothing more to do.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs.export_history import RANGE_END, RANGE_START, ExportHistory
from salesintel_dagster.defs.leaving import leaving
from salesintel_dagster.defs.smartgo_export import JOB, SCHEDULE_HOUR_UTC
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.late_days import (
    LOOK_BACK_DAYS,
    MISSING_DAYS,
    DayGroup,
    Plan,
    look_back_days,
    missing_days,
    newest_due_day,
    plan,
    told,
)
from salesintel_dagster.domain.ports import ObjectStore, ProgressLedger, SaleSource, SalesTable
from salesintel_dagster.flows.export.backfill import SOURCE_SYSTEM
from salesintel_dagster.flows.export.late_days import LookBack
from salesintel_dagster.flows.export.lost_runs import lose_dead_runs
from salesintel_dagster.settings import Settings

TICK_SECONDS = 600
REASON = "salesintel/reason"
NIGHT = "salesintel/look-back-of"
"""Tag of a look-back's runs: the newest day that was due in that night."""
ENDED_WITHIN = timedelta(days=2)
"""Days of runs that failed since then are looked at for progress that still says RUNNING."""

Asked = list[dg.RunRequest] | dg.SkipReason


def build(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> dg.Definitions:
    """Return the three sensors."""
    return dg.Definitions(
        sensors=[_missing(settings, clock), _late(settings, clock), _lost(settings, clock)],
    )


def _newest(settings: Settings, clock: Clock) -> date:
    return newest_due_day(clock.now(), settings.zone, SCHEDULE_HOUR_UTC)


def _requests(groups: Sequence[DayGroup], reason: str, tags: dict[str, str]) -> list[dg.RunRequest]:
    """Return one request a group: a single day as a partition, more as a range, which one run exports in order."""
    requests = []
    for group in groups:
        first, last = group.days[0].isoformat(), group.days[-1].isoformat()
        days = {} if first == last else {RANGE_START: first, RANGE_END: last}
        requests.append(
            dg.RunRequest(
                run_key=group.key(reason),
                partition_key=first if first == last else None,
                tags={REASON: reason.partition("-")[0], **tags, **days},
            )
        )
    return requests


def _answer(
    context: dg.SensorEvaluationContext, planned: Plan, wanted: str, reason: str, tags: dict[str, str]
) -> Asked:
    """Return the runs to ask for now, or why there are none; `wanted` says what the days are."""
    if not planned.groups:
        return dg.SkipReason(planned.sentence(wanted))
    context.log.info("%s, asked for now: %s", wanted, told(planned.days))
    return _requests(planned.groups, reason, tags)


def _missing(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    @dg.sensor(
        name="smartgo_missing_days",
        job_name=JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Every 10 minutes: export the days of the last {MISSING_DAYS}, from the schedule's first night "
        "on, that were never exported, after downtime or a failed night. A failed day is tried 5 times over 17 hours.",
    )
    @leaving(wiring.redaction(settings))
    def smartgo_missing_days(context: dg.SensorEvaluationContext) -> Asked:
        history = ExportHistory(context.instance)
        missing = missing_days(_newest(settings, clock), history.exported(), history.first_night())
        if not missing:
            return dg.SkipReason("Every day that is due since the first night is in the table.")
        if history.backfilling():
            return dg.SkipReason(f"{told(missing)}: never exported; a backfill is under way, which may bring them.")
        since = clock.now() - timedelta(days=MISSING_DAYS + 1)
        planned = plan(missing, history.busy(), history.failed(since), clock.now(), settings.backfill_days_per_run)
        return _answer(context, planned, "Days that were never exported", "missing", {})

    return smartgo_missing_days


def _late(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    @dg.sensor(
        name="smartgo_late_days",
        job_name=JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"After each nightly run: compare the {LOOK_BACK_DAYS} days before it with their source by count "
        "and checksum, and export those that differ once more.",
    )
    @leaving(wiring.redaction(settings))
    def smartgo_late_days(
        context: dg.SensorEvaluationContext,
        smartgo_db: dg.ResourceParam[SaleSource],
        lakehouse: dg.ResourceParam[SalesTable],
        analytics: dg.ResourceParam[ObjectStore],
    ) -> Asked:
        night = _newest(settings, clock)
        if context.cursor == night.isoformat():
            return dg.SkipReason(f"The look-back from {night} is done; the next one follows the next nightly run.")
        history = ExportHistory(context.instance)
        days = look_back_days(night, history.exported())
        if busy := sorted(history.busy() & set(days)):
            return dg.SkipReason(f"{told(busy)}: an export is queued or under way; compared when it has ended.")
        compared = LookBack(smartgo_db, lakehouse, analytics, SOURCE_SYSTEM, settings.zone).compare(days)
        late = [found.day for found in compared if found.differs]
        tags = {NIGHT: night.isoformat()}
        asked = history.asked(tags, clock.now() - timedelta(days=LOOK_BACK_DAYS)) if late else {}
        planned = plan(late, (), asked, clock.now(), settings.backfill_days_per_run)
        if not planned.groups and not planned.waiting:
            context.update_cursor(night.isoformat())
        if not late:
            return dg.SkipReason(f"Source and table agree on {told(days) or 'no exported day'}.")
        return _answer(context, planned, "Days whose source differs from the table", f"late-{night}", tags)

    return smartgo_late_days


def _lost(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    @dg.sensor(
        name="smartgo_lost_runs",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Every 10 minutes: progress that says RUNNING although its run has ended or is gone becomes LOST.",
    )
    @leaving(wiring.redaction(settings))
    def smartgo_lost_runs(
        context: dg.SensorEvaluationContext, dynamodb: dg.ResourceParam[ProgressLedger]
    ) -> dg.SkipReason:
        now, newest = clock.now(), _newest(settings, clock)
        history = ExportHistory(context.instance)
        recent = days_between(newest - timedelta(days=LOOK_BACK_DAYS), newest + timedelta(days=1))
        days = sorted({*recent, *history.failed(now - ENDED_WITHIN)})
        longest = timedelta(seconds=settings.run_max_seconds)
        try:
            lost = lose_dead_runs(dynamodb, days, history.alive(), now, longest)
        except ProgressUnavailable as error:
            return dg.SkipReason(f"Progress cannot be judged now: {error}.")
        if not lost:
            return dg.SkipReason(f"No run died silently on {len(days)} days looked at.")
        named = ", ".join(f"{record.run_id} on {record.day}" for record in lost[:3])
        return dg.SkipReason(f"{len(lost)} records of runs that died are LOST now: {named}.")

    return smartgo_lost_runs
