"""What Dagster's event log and its partitions say went wrong, as `Seen` values. Reads only.

`get_logs_for_all_runs_by_log_id` is the one call that gives check evaluations of all runs by ascending storage id on
every event log: SQLite's is split by run, and there the public `get_event_records` orders by run. Dagster's own
retry daemon reads with it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import dagster as dg

from salesintel_dagster.defs.partitions import last_whole_day
from salesintel_dagster.defs.smartgo_export import SCHEDULE_HOUR_UTC
from salesintel_dagster.defs.verdicts import REPEATED
from salesintel_dagster.domain.alerts import (
    FIRST_START_LOOKS_BACK,
    FRESH_BY,
    RETRY_COMES_WITHIN,
    AlertKind,
    Incident,
    Reached,
    Seen,
    deadlines,
    first_reached,
)
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.flows.export.run import SMARTGO_SALES
from salesintel_dagster.settings import Settings

MAX_EVENTS_READ = 500
"""Of a kind, a tick. A backfill of a year leaves 3,650 evaluations: read in four minutes."""
MAX_STEP_FAILURES_TOLD = 3
PARTITION_TAG = "dagster/partition"
PARTITION_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
WILL_RETRY_TAG = "dagster/will_retry"
RETRY_TAG = "dagster/auto_retry_run_id"
"""Of a failed run: the one that Dagster made in its place."""
GUIDE = "docs/runbook.md"
SECTIONS = {AlertKind.RUN: "a run failed", AlertKind.FRESHNESS: "a day is missing"}
"""The guide's section of each kind; a failed check's is named for the check."""
_CODE_AND_FIELD = re.compile(r"\b([A-Z][A-Z_]{2,40} [a-z_]{1,60})=")


@dataclass(frozen=True, slots=True)
class IncidentLog:
    """The three kinds of incidents of one Dagster instance."""

    instance: dg.DagsterInstance
    settings: Settings

    def begin(self, now: datetime) -> Reached:
        """Return where a sink that was never used begins: a day ago."""
        since = now - FIRST_START_LOOKS_BACK
        check = self._before(dg.DagsterEventType.ASSET_CHECK_EVALUATION, since)
        return first_reached(now, check, self._before(dg.DagsterEventType.RUN_FAILURE, since))

    def newest(self) -> int:
        """Return the newest storage id: a cursor beyond it is another event log's."""
        return self.instance.event_log_storage.get_maximum_record_id() or 0

    def after(self, reached: Reached, now: datetime) -> Iterator[Seen]:
        """Yield what happened after `reached`, each kind in its order; a bounded part of it."""
        for position, entry in self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION, reached.check).items():
            yield self._of_check(position, entry)
        for position, entry in self._events(dg.DagsterEventType.RUN_FAILURE, reached.run).items():
            incident = self._of_run(entry, now)
            if incident is None:
                break  # it and all behind it are told later
            yield Seen(AlertKind.RUN, position, _at(entry), incident)
        for deadline_day, deadline in deadlines(reached.freshness, now):
            incident = self._of_deadline(deadline_day)
            yield Seen(AlertKind.FRESHNESS, deadline_day.toordinal(), deadline, incident)

    def _events(
        self, kind: dg.DagsterEventType, after: int, limit: int = MAX_EVENTS_READ
    ) -> Mapping[int, dg.EventLogEntry]:
        return self.instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, limit)

    def _before(self, kind: dg.DagsterEventType, since: datetime) -> int:
        """Find the position whose followers are not older than `since`: some 20 reads, not the whole history."""

        def next_at(position: int) -> float:
            following = self._events(kind, position, limit=1)
            return next(iter(following.values())).timestamp if following else float("inf")

        return bisect_left(range(self.newest() + 1), since.timestamp(), key=next_at)

    def _of_check(self, position: int, entry: dg.EventLogEntry) -> Seen:
        found = entry.get_dagster_event().asset_check_evaluation_data
        if found.passed or REPEATED in found.metadata:
            return Seen(AlertKind.CHECK, position, _at(entry))
        asset = found.asset_key.to_user_string()
        facts = {name: str(value.value) for name, value in found.metadata.items()}
        partition = found.partition or facts.get("partition", "")
        incident = Incident(
            Severity.WARN if found.severity is dg.AssetCheckSeverity.WARN else Severity.ERROR,
            f"{asset}.{found.check_name} {partition}".strip(),
            (
                ("asset", asset),
                ("check", found.check_name + (" (blocks the day's commit)" if found.blocking else "")),
                ("partition", partition),
                ("expected", facts.get("expected") or found.description or "the check to pass"),
                ("found", facts.get("found", "")),
                ("first offenders", _without_values(facts.get("offenders_named", ""))),
                ("run", entry.run_id),
                ("what to do", f"{GUIDE}, {found.check_name}"),
            ),
            self._link("runs", entry.run_id) if entry.run_id else self._link("assets", asset),
        )
        return Seen(AlertKind.CHECK, position, _at(entry), incident)

    def _of_run(self, entry: dg.EventLogEntry, now: datetime) -> Incident | None:
        """Return what failed; None as long as Dagster may still start it again, as it said it would.

        It says so when the run dies, and makes the new run within seconds, or never: a daemon that starts for the first
        time looks at no older run.
        """
        run = self.instance.get_run_by_id(entry.run_id)
        tags = run.tags if run is not None else {}
        ends = dict.fromkeys(tags[name] for name in PARTITION_RANGE_TAGS if name in tags)  # one day is said once
        partition = tags.get(PARTITION_TAG) or " to ".join(ends)
        announced, again = tags.get(WILL_RETRY_TAG) == "true", tags.get(RETRY_TAG)
        if announced and again is None and now - _at(entry) < RETRY_COMES_WITHIN:
            return None
        minutes = RETRY_COMES_WITHIN // timedelta(minutes=1)
        broken = f"Dagster was to start it again and has not within {minutes} minutes" if announced else ""
        return Incident(
            Severity.WARN if again else Severity.ERROR,
            f"run of {entry.job_name} failed {partition}".strip(),
            (
                ("job", entry.job_name or ""),
                ("partition", partition),
                ("expected", "the run to succeed"),
                ("found", " | ".join(self._reasons(entry))),
                ("again", f"Dagster starts it again by itself, as run {again}" if again else broken),
                ("run", entry.run_id),
                ("what to do", f"{GUIDE}, {SECTIONS[AlertKind.RUN]}"),
            ),
            self._link("runs", entry.run_id),
        )

    def _reasons(self, entry: dg.EventLogEntry) -> Iterator[str]:
        """Yield why the run failed: its steps' own words where it has any."""
        failures = self.instance.get_records_for_run(
            entry.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=MAX_STEP_FAILURES_TOLD
        ).records
        for record in failures:
            failed = record.event_log_entry.get_dagster_event().step_failure_data
            described = failed.user_failure_data.description if failed.user_failure_data else None
            # Dagster's own error only says in which step; its cause is what the step raised.
            raised = (failed.error.cause or failed.error) if failed.error else None
            yield described or (raised.message.strip() if raised else "a step failed")
        if not failures:
            yield entry.get_dagster_event().message or "no reason was recorded"

    def _of_deadline(self, deadline_day: date) -> Incident | None:
        """Return what is missing: the day that the nightly schedule materialises on `deadline_day`."""
        tick = datetime(deadline_day.year, deadline_day.month, deadline_day.day, SCHEDULE_HOUR_UTC, tzinfo=UTC)
        day = last_whole_day(tick, self.settings)
        if day < date.fromisoformat(self.settings.first_day) or self._is_there(day):
            return None
        return Incident(
            Severity.ERROR,
            f"{SMARTGO_SALES} {day} is not there",
            (
                ("asset", SMARTGO_SALES),
                ("partition", day.isoformat()),
                ("expected", f"materialised by {FRESH_BY:%H:%M} UTC on {deadline_day}"),
                ("found", "no materialisation of that day"),
                ("what to do", f"{GUIDE}, {SECTIONS[AlertKind.FRESHNESS]}"),
            ),
            self._link("assets", SMARTGO_SALES),
        )

    def _is_there(self, day: date) -> bool:
        of_day = dg.AssetRecordsFilter(dg.AssetKey(SMARTGO_SALES), asset_partitions=[day.isoformat()])
        return bool(self.instance.fetch_materializations(of_day, limit=1).records)

    def _link(self, *path: str) -> str | None:
        base = self.settings.alert_link_base
        return "/".join([base.rstrip("/"), *(quote(part) for part in path)]) if base else None


def _without_values(offenders: str) -> str:
    """Name ids as they are; of quarantined rows (`CODE field=value`) keep code and field: a value may be personal."""
    named = _CODE_AND_FIELD.findall(offenders)
    return ", ".join(dict.fromkeys(named)) if named else offenders


def _at(entry: dg.EventLogEntry) -> datetime:
    return datetime.fromtimestamp(entry.timestamp, tz=UTC)
