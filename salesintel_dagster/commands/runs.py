"""Running the export's job in the Dagster instance from the command line: real runs, seen in the UI."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import click
import dagster as dg

from salesintel_dagster.commands.session import Session, prepare_instance
from salesintel_dagster.defs.partitions import daily
from salesintel_dagster.defs.smartgo_export import JOB, STEP
from salesintel_dagster.domain.errors import SettingInvalid

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One run over some days: whether it succeeded, what failed, and the checks that did not pass."""

    run_id: str
    success: bool
    failure: str | None
    failed_checks: tuple[str, ...]
    blocked: bool


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def run_days(
    opened: Session, days: Sequence[date], *, allow_empty: bool = False, refetch_images: bool = False
) -> RunOutcome:
    """Export the days in one run of the job, telling each step on standard error.

    Raises SettingInvalid for a day that is no partition (it has not ended, or lies before the first day).
    """
    from salesintel_dagster.definitions import build  # noqa: PLC0415 - reads the environment that we have just set

    _check_days(opened, days)
    prepare_instance()
    tell = logging.getLogger("salesintel.export")
    tell.setLevel(logging.INFO)
    handler = _Lines()
    tell.addHandler(handler)
    try:
        with dg.DagsterInstance.get() as instance:
            job = build(opened.settings).resolve_job_def(JOB)
            result = job.execute_in_process(
                instance=instance,
                raise_on_error=False,
                tags={RANGE_START: days[0].isoformat(), RANGE_END: days[-1].isoformat(), "salesintel/by": "cli"},
                run_config={
                    "ops": {STEP: {"config": {"allow_empty": allow_empty, "refetch_images": refetch_images}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
            )
    finally:
        tell.removeHandler(handler)
    return _outcome(result)


def _check_days(opened: Session, days: Sequence[date]) -> None:
    partitions = daily(opened.settings)
    for day in (days[0], days[-1]):
        if not partitions.has_partition_key(day.isoformat()):
            first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
            raise SettingInvalid(f"{day}: no such partition; days from {first} to {last} can be materialised")


def _outcome(result: dg.ExecuteInProcessResult) -> RunOutcome:
    failed = [event for event in result.all_events if event.is_step_failure]
    checks = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    return RunOutcome(
        result.run_id,
        result.success,
        _reason(failed[0]) if failed else None,
        tuple(f"{check.partition} {check.severity.value} {check.description}" for check in checks),
        any(check.blocking for check in checks),
    )


def _reason(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    user = data.user_failure_data
    if user is not None and user.description:
        return user.description
    return data.error.message.strip() if data.error else "unknown"
