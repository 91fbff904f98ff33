"""Upkeep of the Iceberg tables in Dagster: one job, beside any writer, and its 05:00 UTC schedule.

Started by hand it is a dry run until told otherwise. What it finds is an observation on the table's asset, so that
snapshots, files and bytes plot over time where the table is looked at.
"""

import logging
from collections.abc import Callable
from typing import Any

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs.leaving import leaving, teller
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.table_keeper import TableKeeper
from salesintel_dagster.domain.upkeep import UpkeepRules
from salesintel_dagster.flows.upkeep import Upkept, look_after
from salesintel_dagster.settings import Settings

JOB = "table_upkeep"
STEP = "look_after_tables"
"""Not the job's name: in one repository an op and a job may not share theirs."""
SCHEDULE_HOUR_UTC = 5
log = logging.getLogger("salesintel.upkeep")


class UpkeepConfig(dg.Config):
    """What one upkeep may do."""

    dry_run: bool = True
    """Only tell what would be compacted, expired and removed. The schedule sets it to false."""


def _look_after_tables(
    context: dg.OpExecutionContext, config: UpkeepConfig, keepers: tuple[TableKeeper, ...], tell: Callable[[str], None]
) -> None:
    """Compact, expire snapshots, remove unreferenced files, table by table; only tell what would be done in a dry run.

    A table or a step that fails does not keep the others from it; the run fails at the end and names them all.
    """
    failures: list[str] = []
    for keeper in keepers:
        upkept = look_after(keeper, UpkeepRules(), SYSTEM_CLOCK, dry_run=config.dry_run)
        failures += upkept.failures
        for line in upkept.lines:
            tell(line)
        if upkept.survey is not None:
            context.log_event(dg.AssetObservation(upkept.table, metadata=_metadata(upkept)))
    if failures:
        raise dg.Failure("; ".join(failures), allow_retries=False)


def build(settings: Settings) -> dg.Definitions:
    """Return the upkeep job and its schedule."""
    redact = wiring.redaction(settings)

    @dg.op(name=STEP)
    @leaving(redact)
    def table_upkeep(
        context: dg.OpExecutionContext, config: UpkeepConfig, table_keepers: dg.ResourceParam[tuple[TableKeeper, ...]]
    ) -> None:
        """Compact, expire snapshots, remove unreferenced files; only tell what would be done in a dry run."""
        _look_after_tables(context, config, table_keepers, teller(context, log, redact))

    @dg.job(
        name=JOB,
        description="Upkeep of the Iceberg tables, beside their writers. Changes nothing unless dry_run is false.",
        tags={"dagster/max_runtime": str(settings.run_max_seconds)},
    )
    def upkeep_job() -> None:
        table_upkeep()

    @dg.schedule(
        name="table_upkeep_daily",
        job=upkeep_job,
        cron_schedule=f"0 {SCHEDULE_HOUR_UTC} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="At 05:00 UTC, after the nightly export: commits and queries stay as quick as in the first month.",
    )
    def table_upkeep_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = context.scheduled_execution_time.date().isoformat()
        return dg.RunRequest(run_key=f"upkeep-{day}", run_config={"ops": {STEP: {"config": {"dry_run": False}}}})

    return dg.Definitions(jobs=[upkeep_job], schedules=[table_upkeep_daily])


def _metadata(upkept: Upkept) -> dict[str, Any]:
    """Return how the table stands, as numbers that plot, and what each step did."""
    survey = upkept.survey
    if survey is None:
        return {}
    return {
        "dry_run": not upkept.applied,
        "snapshots": len(survey.snapshots),
        "data_files": survey.data_files,
        "manifests": survey.manifests,
        "data_bytes": survey.data_bytes,
        "stored_files": survey.stored_files,
        "stored_bytes": survey.stored_bytes,
        **{f"{step.step.value}_items": step.items for step in upkept.steps},
    }
