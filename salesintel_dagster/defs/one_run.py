"""One run of a job at a time: what a queue's sensor asks before it requests another, and the pool that holds to it."""

from datetime import datetime, timedelta
from typing import NamedTuple

import dagster as dg

from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.domain.event_queue import EventQueue

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
LAUNCHED_WITHIN = timedelta(minutes=10)
"""A run that was made and not queued within this belongs to a daemon that died in between: nobody will start it."""


class Words(NamedTuple):
    """How a queue's messages are called on its sensor's page, and where those are that do not wait."""

    one: str
    many: str
    elsewhere: str


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


def asked(
    instance: dg.DagsterInstance, job: str, pool: str, queue: EventQueue, now: datetime, words: Words
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where messages wait and none is under way; a queue that cannot be looked at is a sentence."""
    limit_pool(instance, pool)
    try:
        depth = queue.depth()
    except SalesIntelError as error:
        return dg.SkipReason(f"The queue cannot be looked at now: {error}.")
    if not depth.waiting:
        return dg.SkipReason(f"No {words.one} waits; {depth.in_flight + depth.delayed} are {words.elsewhere}.")
    if under_way(instance, job, now):
        return dg.SkipReason(f"{depth.waiting} {words.many} wait for the run that is under way.")
    return dg.RunRequest()
