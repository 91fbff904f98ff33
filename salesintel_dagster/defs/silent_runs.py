"""Runs of a queue's worker that died without a word.

Dagster's default launcher cannot ask whether a run's process lives: such a run stays STARTED, keeps the pool's one
place and keeps the sensor from starting another, until run monitoring ends it after hours (seen 2026-11-27 after a
SIGKILL). A living one says something every round. To end one that lives after all costs nothing but a second worker,
which both flows stand.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg

from salesintel_dagster.defs.lost_runs import end_dead_run

LOST = "The process of this run ended without a word. What it had taken comes again; what it wrote is kept."
_AT_WORK = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def end_silent_runs(
    instance: dg.DagsterInstance, job: str, silent: timedelta, now: datetime, alive: Collection[str] = ()
) -> list[str]:
    """End the job's runs that have said nothing for `silent` and are not known to be alive; return their ids.

    The run fails for another reason than a failed step, so that Dagster's `run_retries` try it again.
    """
    ended: list[str] = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_AT_WORK)):
        run = record.dagster_run
        events = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        heard = datetime.fromtimestamp(events[0].timestamp, UTC) if events else record.create_timestamp
        if run.run_id in alive or now - heard < silent:
            continue
        end_dead_run(instance, run, LOST)
        ended.append(run.run_id)
    return ended
