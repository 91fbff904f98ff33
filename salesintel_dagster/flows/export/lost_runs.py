"""Runs that died without a word: their progress says RUNNING for ever, until this makes it LOST.

Only a record that its run has not touched since is changed, and never a newer run's. A run that lives after all
(in another instance, behind a slow network) writes its own state over it with its next numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta

from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState

QUIET = timedelta(minutes=5)
"""A run writes every few seconds, or at least once a minute while its ledger is down."""


def lose_dead_runs(
    ledger: ProgressLedger, days: Iterable[date], alive: Callable[[str], bool], now: datetime, max_run: timedelta
) -> list[Progress]:
    """Make LOST of the records of `days` that are RUNNING although their run is not; return them as they were.

    A run is dead when it has been silent for `QUIET` and is not `alive` (by its run id), or has been silent for
    longer than any run may last. Raises ProgressUnavailable.
    """
    lost = []
    for day in days:
        for record in ledger.history(day):
            silent = now - record.updated_at
            if record.state is not RunState.RUNNING or silent < QUIET:
                continue
            if (silent > max_run or not alive(record.run_id)) and ledger.lose(record, now):
                lost.append(record)
    return lost
