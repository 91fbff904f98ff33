"""Whose turn it is to pay: of several runs of one day the oldest, and then the next, which finds its vectors made.

Two runs of a day walk through the same images in step, so that a look at the vector cache before each call comes too
early for both: without turns a day's new images are paid for twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.lost_runs import QUIET
from salesintel_dagster.flows.export.run import REPORT_SECONDS, SMARTGO_SALES, DayRun

SILENT_SECONDS = 3 * REPORT_SECONDS
"""A run whose record has not changed for so long is dead, and nobody waits for it; one that pays reports thrice."""


def await_turn(run: DayRun) -> None:
    """Wait while a run of this day that began earlier may still pay; without the ledger, go on.

    The record of this run must be written before, so that of two that begin at once one sees the other.
    """
    ahead = _Ahead(run)
    if not ahead.look():
        return
    run.say("Waiting for an earlier run of the day", run_id=",".join(sorted(ahead.alive)))
    stage = run.progress.current.stage
    while ahead.alive:
        run.progress.update(stage=f"waiting for {','.join(sorted(ahead.alive))}")
        run.clock.sleep(REPORT_SECONDS)
        ahead.look()
    run.progress.update(force=True, stage=stage)


@dataclass(slots=True)
class _Ahead:
    """The runs ahead of this one, and when each was last seen to say something: by this machine's clock alone."""

    run: DayRun
    alive: frozenset[str] = frozenset()
    _heard: dict[str, tuple[datetime, float]] = field(default_factory=dict)

    def look(self) -> bool:
        """Tell whether there is still one alive."""
        try:
            records = self.run.progress.ledger.history(self.run.window.day)
        except ProgressUnavailable:
            records = []
        self.alive = frozenset(record.run_id for record in records if self._is_ahead(record) and self._speaks(record))
        return bool(self.alive)

    def _is_ahead(self, record: Progress) -> bool:
        mine = self.run.progress.current
        earlier = (record.started_at, record.run_id) < (mine.started_at, mine.run_id)
        lively = record.state is RunState.RUNNING and self.run.clock.now() - record.updated_at < QUIET
        return earlier and lively and record.stage != SMARTGO_SALES

    def _speaks(self, record: Progress) -> bool:
        now = self.run.clock.monotonic()
        said, at = self._heard.get(record.run_id, (None, now))
        if said != record.updated_at:
            at = now
        self._heard[record.run_id] = (record.updated_at, at)
        return now - at < SILENT_SECONDS
