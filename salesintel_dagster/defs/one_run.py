"""One run of a job at a time: what a queue's sensor asks before it requests another, and the pool that holds to it."""

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def under_way(instance: dg.DagsterInstance, job: str) -> bool:
    """Tell whether a run of the job is queued or at work."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1))


def limit_pool(instance: dg.DagsterInstance, pool: str) -> None:
    """Give the pool one slot, unless somebody has chosen a limit."""
    storage = instance.event_log_storage
    if not any(one.name == pool and not one.from_default for one in storage.get_pool_limits()):
        storage.set_concurrency_slots(pool, 1)
