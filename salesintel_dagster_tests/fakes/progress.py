"""The progress ledger in memory, which can be down."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.ports import ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState, bounded_errors


class InMemoryProgressLedger(ProgressLedger):
    """`recorded` is every record that was written, in order; `down = True` makes every call fail."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.recorded: list[Progress] = []
        self.attempts = 0
        self._newest: dict[date, Progress] = {}
        self._runs: dict[date, dict[str, Progress]] = {}

    def record(self, progress: Progress) -> None:
        self.attempts += 1
        self._check()
        kept = replace(progress, failed=dict(progress.failed), errors=bounded_errors(list(progress.errors)))
        self.recorded.append(kept)
        self._runs.setdefault(kept.day, {})[kept.run_id] = kept
        newest = self._newest.get(kept.day)
        if newest is None or newest.started_at < kept.started_at or newest.run_id == kept.run_id:
            self._newest[kept.day] = kept

    def lose(self, seen: Progress, at: datetime) -> bool:
        self._check()
        kept = self._runs.get(seen.day, {}).get(seen.run_id)
        if kept is None or (kept.state, kept.updated_at) != (RunState.RUNNING, seen.updated_at):
            return False
        lost = replace(kept, state=RunState.LOST, updated_at=at, finished_at=at)
        self._runs[seen.day][seen.run_id] = lost
        if self._newest[seen.day].run_id == seen.run_id:
            self._newest[seen.day] = lost
        return True

    def newest(self, day: date) -> Progress | None:
        self._check()
        return self._newest.get(day)

    def history(self, day: date) -> list[Progress]:
        self._check()
        runs = self._runs.get(day, {}).values()
        return sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)

    def _check(self) -> None:
        if self.down:
            raise ProgressUnavailable("the progress table is down")
