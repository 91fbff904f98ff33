"""Runs whose processes ended with the stack that launched them, without a word.

Dagster's default launcher cannot ask whether a run's process lives, so that such a run stays STARTED, and keeps its
place in the pool, until `run_max_seconds` (4 h): two of them and no export starts any more (seen 2026-11-21 after a
SIGTERM in the middle of a run).
"""

import dagster as dg

from salesintel_dagster.defs.export_history import ENDED

BY_TAG = "salesintel/by"
"""On runs that a command executes in its own process: they may live beside any daemon."""
LOST = "The process of this run ended with the stack that launched it. Days that it committed are kept."
_UNFINISHED = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """End every run that an earlier daemon launched, free its place in the pool, and return their ids.

    Only for whoever holds the home's lock and has not yet started its own daemon: then no such run lives. The run
    fails for another reason than a failed step, so that Dagster's `run_retries` try it again.
    """
    unfinished = instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))
    lost = [run for run in unfinished if BY_TAG not in run.tags]
    for run in lost:
        end_dead_run(instance, run, LOST)
    return [run.run_id for run in lost]


def end_dead_run(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    """End a run whose process is known to be dead, and free its place in the pool, which it may hold even if ended."""
    if run.status not in ENDED:
        instance.report_run_failed(run, why)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
