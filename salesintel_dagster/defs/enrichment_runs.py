"""Runs of the enrichment that died without a word.

Dagster's default launcher cannot ask whether a run's process lives: such a run stays STARTED, keeps the pool's one
place and keeps the sensor from starting another, until run monitoring ends it after hours (seen 2026-11-27 after a
SIGKILL). A living one says something every round, or keeps a lease alive.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from salesintel_dagster.defs.lost_runs import end_dead_run
from salesintel_dagster.flows.enrichment.checks import JobBatches
from salesintel_dagster.flows.enrichment.parts import LEASE_SECONDS

SILENT = timedelta(seconds=LEASE_SECONDS + 60)
LOST = "The process of this run ended without a word. Its batches are taken over; what it wrote is kept."
_AT_WORK = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def holders(jobs: Sequence[JobBatches], now: datetime) -> set[str]:
    """Return the ids of the runs that hold a lease now: an owner's name begins with its run's id."""
    leases = (batch.held_at(now) for one in jobs for batch in one.batches)
    return {lease.owner.partition("/")[0] for lease in leases if lease is not None}


def end_silent_runs(instance: dg.DagsterInstance, job: str, alive: Collection[str], now: datetime) -> list[str]:
    """End the job's runs that have been silent for longer than a lease lasts and hold none; return their ids.

    The run fails for another reason than a failed step, so that Dagster's `run_retries` try it again.
    """
    ended: list[str] = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_AT_WORK)):
        run = record.dagster_run
        events = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        heard = datetime.fromtimestamp(events[0].timestamp, UTC) if events else record.create_timestamp
        if run.run_id in alive or now - heard < SILENT:
            continue
        end_dead_run(instance, run, LOST)
        ended.append(run.run_id)
    return ended
