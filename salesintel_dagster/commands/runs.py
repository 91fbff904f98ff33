"""Running the export's job in the Dagster instance from the command line: real runs, seen in the UI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import click
import dagster as dg

from salesintel_dagster.commands.left_behind import TAG, command_line
from salesintel_dagster.commands.live import exporting
from salesintel_dagster.commands.output import counted, say
from salesintel_dagster.commands.session import Session, prepare_instance
from salesintel_dagster.commands.stopping import Stopped, deaf_children, delivered_again, noticing
from salesintel_dagster.defs.export_history import RANGE_END, RANGE_START
from salesintel_dagster.defs.lost_runs import BY_TAG
from salesintel_dagster.defs.partitions import daily
from salesintel_dagster.defs.smartgo_export import JOB, STEP
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.flows.export.run import SMARTGO_SALES
from salesintel_dagster.settings import variable_of

QUEUE_POLL_SECONDS = 1.0
MOST_CHECKS_TOLD = 20


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that a day did not pass; `verdict` says what was expected and what was found."""

    day: str | None
    severity: str
    blocking: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One run over some days: whether it succeeded, what failed, and the checks that did not pass."""

    run_id: str
    days: int
    success: bool
    failure: str | None
    failed_checks: tuple[FailedCheck, ...]
    wrote: bool
    """At least one day was committed."""


def tell_checks(outcomes: Sequence[RunOutcome]) -> None:
    """Print the checks that did not pass, a line each: the first `MOST_CHECKS_TOLD`, and how many more."""
    failed = [check for outcome in outcomes for check in outcome.failed_checks]
    for check in failed[:MOST_CHECKS_TOLD]:
        click.echo(f"check: {check.day} {check.severity} {check.verdict}")
    if len(failed) > MOST_CHECKS_TOLD:
        click.echo(f"check: {len(failed) - MOST_CHECKS_TOLD} more did not pass; `salesintel status DATE` names a day's")


def run_days(
    opened: Session,
    days: Sequence[date],
    *,
    allow_empty: bool = False,
    refetch_images: bool = False,
    verbose: bool = False,
) -> list[RunOutcome]:
    """Export the days, which have no gap, in runs of at most `backfill_days_per_run`; return each run's outcome.

    A run that commits no day is the last one: what hindered it hinders the next ones, too. Raises BadParameter for a
    day that is no partition (it has not ended, or lies before the first day) and Stopped after Ctrl-C or SIGTERM.
    """
    from salesintel_dagster.definitions import build  # noqa: PLC0415 - reads the environment that we have just set

    _check_days(opened, days)
    folder = prepare_instance()
    outcomes: list[RunOutcome] = []
    config = {"allow_empty": allow_empty, "refetch_images": refetch_images}
    with dg.DagsterInstance.get() as instance, command_line(instance, folder) as name:
        _wait_for_place(instance)
        with exporting(len(days), verbose=verbose):
            job = build(opened.settings).resolve_job_def(JOB)
            for part in _parts(days, opened.settings.backfill_days_per_run):
                outcomes.append(_run(job, instance, part, config, {BY_TAG: "cli", TAG: name}))
                if not outcomes[-1].wrote:
                    break
    return outcomes


def _wait_for_place(instance: dg.DagsterInstance) -> None:
    """Wait here, where a signal ends it: inside the run Dagster would wait for the place deaf to signals."""
    told = False
    while True:
        pool = instance.event_log_storage.get_concurrency_info(STEP)
        if not pool.slot_count or pool.active_slot_count < pool.slot_count:
            return
        if not told:
            say(f"{counted(pool.active_slot_count, 'export')} running already; this one begins when one of them ends")
            told = True
        SYSTEM_CLOCK.sleep(QUEUE_POLL_SECONDS)


def _parts(days: Sequence[date], most: int) -> Iterator[Sequence[date]]:
    for start in range(0, len(days), most):
        yield days[start : start + most]


def _run(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    days: Sequence[date],
    config: dict[str, bool],
    tags: dict[str, str],
) -> RunOutcome:
    interrupted = dg.DagsterExecutionInterruptedError
    with noticing() as notice, deaf_children(instance.compute_log_manager), delivered_again(interrupted):
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={RANGE_START: days[0].isoformat(), RANGE_END: days[-1].isoformat(), **tags},
            run_config={
                "ops": {STEP: {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
        number = notice.number()
    if number is not None:
        raise Stopped(
            "stopped; the days that were committed stay, and the same command again does the rest without paying "
            "for a picture twice",
            number,
        )
    return _outcome(result, len(days))


def _check_days(opened: Session, days: Sequence[date]) -> None:
    partitions = daily(opened.settings)
    for day in (days[0], days[-1]):
        if not partitions.has_partition_key(day.isoformat()):
            first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
            can = f"days from {first} to {last} can be exported" if first else "no day from then on has ended yet"
            begins = f"the first day is {opened.settings.first_day} ({variable_of('first_day')})"
            raise click.BadParameter(f"{day} is no partition: {begins}; {can}")


def _outcome(result: dg.ExecuteInProcessResult, days: int) -> RunOutcome:
    failed = [event for event in result.all_events if event.is_step_failure]
    checks = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    return RunOutcome(
        result.run_id,
        days,
        result.success,
        _reason(failed[0]) if failed else None if result.success else "the run failed; `salesintel up` shows why",
        tuple(
            FailedCheck(check.partition, check.severity.value, bool(check.blocking), check.description or "")
            for check in checks
        ),
        _wrote(result),
    )


def _wrote(result: dg.ExecuteInProcessResult) -> bool:
    events = result.get_asset_materialization_events()
    return any(event.asset_key == dg.AssetKey(SMARTGO_SALES) for event in events)


def _reason(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    user = data.user_failure_data
    if user is not None and user.description:
        return user.description
    return data.error.message.strip() if data.error else "unknown"
