"""One day of one run for tests of the stages: a log that is a list, a ledger in memory, a clock of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.ports import DayScope
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.run import DayRun, ProgressReporter
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger


@dataclass(frozen=True, slots=True)
class RunForTests:
    """`run` is what a stage takes; `said` are the lines it logged."""

    run: DayRun
    said: list[str] = field(default_factory=list)


def export_run(
    day: date,
    *tenants: str,
    zone: str = "UTC",
    clock: Clock = SYSTEM_CLOCK,
    ledger: InMemoryProgressLedger | None = None,
) -> RunForTests:
    said: list[str] = []
    now = clock.now()
    progress = Progress(day, "run-1", started_at=now, updated_at=now, state=RunState.RUNNING, stage="starting")
    reporter = ProgressReporter(ledger or InMemoryProgressLedger(), clock, said.append, progress)
    scope = DayScope(day, tenants or ("carousel-labs",), "smartgo")
    return RunForTests(DayRun(day_window(day, ZoneInfo(zone)), scope, "run-1", clock, said.append, reporter), said)
