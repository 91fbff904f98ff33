"""One run of a job at a time: what a queue's sensor asks before it requests another, and the pool that holds to it."""

from datetime import datetime, timedelta

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
LAUNCHED_WITHIN = timedelta(minutes=10)
"""A run that was made and not queued within this belongs to a daemon that died in between: nobody will start it."""


def under_way(instance: dg.DagsterInstance, job: str, now: datetime) -> bool:
    """Tell whether a run of the job is queued or at work, or was made just now."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=UNFINISHED))
    return any(
        record.dagster_run.status is not dg.DagsterRunStatus.NOT_STARTED
        or now - record.create_timestamp < LAUNCHED_WITHIN
        for record in records
    )


def limit_pool(instance: dg.DagsterInstance, pool: str) -> None:
    """Give the pool one slot, unless somebody has chosen a limit."""
    storage = instance.event_log_storage
    if not any(one.name == pool and not one.from_default for one in storage.get_pool_limits()):
        storage.set_concurrency_slots(pool, 1)
