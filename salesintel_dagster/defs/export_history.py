"""What the Dagster instance knows of the export's days: exported, under way, tried in vain. Reads the instance only."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime

import dagster as dg

from salesintel_dagster.defs.smartgo_export import JOB, SCHEDULE
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.late_days import Tries
from salesintel_dagster.flows.export.day import STAGES
from salesintel_dagster.flows.export.run import SMARTGO_SALES

PARTITION = "dagster/partition"
SCHEDULED_BY = "dagster/schedule_name"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNDER_WAY = tuple(status for status in dg.DagsterRunStatus if status not in ENDED)
MAX_RUNS = 1_000
"""Ended runs looked at: a month of nightly runs, retries and backfills."""
MAX_BACKFILLS = 50


class ExportHistory:
    """The export's days in one instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def exported(self) -> set[date]:
        """Return every day that was ever written to the table."""
        keys = self._instance.get_materialized_partitions(dg.AssetKey(SMARTGO_SALES))
        return {date.fromisoformat(key) for key in keys}

    def first_night(self) -> date | None:
        """Return the day that the nightly schedule asked for first; None where it never did."""
        asked = dg.RunsFilter(job_name=JOB, tags={SCHEDULED_BY: SCHEDULE})
        first = self._instance.get_run_records(asked, limit=1, ascending=True)
        return min((day for record in first for day in days_of(record.dagster_run.tags)), default=None)

    def busy(self) -> set[date]:
        """Return the days of runs that are queued or in progress."""
        runs = self._instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
        return {day for run in runs if _exports(run) for day in days_of(run.tags)}

    def alive(self) -> Callable[[str], bool]:
        """Return whether a run id is that of a run that has not ended, as of now."""
        return {run.run_id for run in self._instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))}.__contains__

    def backfilling(self) -> bool:
        """Tell whether a backfill of the export is under way: which runs it will still ask for is its own business."""
        stages = {dg.AssetKey(stage) for stage in STAGES}
        return any(
            backfill.status.value in {"REQUESTED", "CANCELING", "FAILING"}
            and stages & set(backfill.asset_selection or ())
            for backfill in self._instance.get_backfills(limit=MAX_BACKFILLS)
        )

    def failed(self, since: datetime) -> dict[date, Tries]:
        """Return how often each day's run ended without success after `since`."""
        return self._tries(FAILED, since, {})

    def asked(self, tags: Mapping[str, str], since: datetime) -> dict[date, Tries]:
        """Return how often a run with these tags was ended for each day, well or not."""
        return self._tries(ENDED, since, tags)

    def _tries(
        self, statuses: Iterable[dg.DagsterRunStatus], since: datetime, tags: Mapping[str, str]
    ) -> dict[date, Tries]:
        tries: dict[date, Tries] = {}
        wanted = dg.RunsFilter(job_name=JOB, statuses=list(statuses), updated_after=since, tags=dict(tags))
        for record in self._instance.get_run_records(wanted, limit=MAX_RUNS):
            ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp
            for day in days_of(record.dagster_run.tags):
                known = tries.get(day)
                latest = ended if known is None else max(ended, known.ended_at)
                tries[day] = Tries(1 if known is None else known.count + 1, latest)
        return tries


def _exports(run: dg.DagsterRun) -> bool:
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return run.job_name == JOB or not selected.isdisjoint(STAGES)


def days_of(tags: Mapping[str, str]) -> list[date]:
    """Return the days that a run's tags name: one, a range or none."""
    if PARTITION in tags:
        return [date.fromisoformat(tags[PARTITION])]
    if RANGE_START in tags and RANGE_END in tags:
        return days_between(date.fromisoformat(tags[RANGE_START]), date.fromisoformat(tags[RANGE_END]))
    return []
