"""One day of one export run: its window, its owner, and the line of sight that an operator has on it.

Stages take a `DayRun` and say what they do through it; they never log, sleep or read the clock by other ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from salesintel_dagster.domain.calendar import DayWindow
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.ports import DayScope, ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState, bounded_errors

REPORT_SECONDS = 3.0
"""How often a running stage tells its counts: seldom enough to cost nothing, often enough to be watched."""

SALES_RAW = "smartgo_sales_raw"
PRODUCT_IMAGES = "product_images"
TITAN_EMBEDDINGS = "titan_embeddings"
SMARTGO_SALES = "smartgo_sales"
QUARANTINE = "quarantine"


@dataclass(slots=True)
class ProgressReporter:
    """Writes the run's progress, at most every few seconds; a ledger that is down costs a warning, nothing else."""

    ledger: ProgressLedger
    clock: Clock
    log: Callable[[str], None]
    current: Progress
    unavailable: str | None = None
    _written_at: float = field(default=float("-inf"))

    def update(self, *, force: bool = False, **changes: object) -> None:
        """Take new numbers; write them when the last write is old enough, or when `force` is given."""
        self.current = replace(self.current, updated_at=self.clock.now(), **changes)  # type: ignore[arg-type]
        if force or self.clock.monotonic() - self._written_at >= REPORT_SECONDS:
            self._write()

    def finish(self, state: RunState, errors: list[str]) -> None:
        """Write the final record: `errors` in full count, the first of them by name."""
        self.update(
            force=True,
            state=state,
            finished_at=self.clock.now(),
            errors=bounded_errors(errors),
            error_count=len(errors),
        )

    def _write(self) -> None:
        self._written_at = self.clock.monotonic()
        try:
            self.ledger.record(self.current)
        except ProgressUnavailable as error:
            if self.unavailable is None:
                self.log(f"[SmartGoExporter] Progress not recorded, the export goes on: {error}")
            self.unavailable = str(error)


@dataclass(frozen=True, slots=True)
class DayRun:
    """What every stage knows of the day it works on."""

    window: DayWindow
    scope: DayScope
    run_id: str
    clock: Clock
    log: Callable[[str], None]
    progress: ProgressReporter

    def say(self, event: str, **facts: object) -> None:
        """Log one line a person can grep: the event, then tenant, partition and facts as key=value."""
        told = {"tenant": ",".join(self.scope.tenants), "partition": self.window.day.isoformat(), **facts}
        self.log(f"[SmartGoExporter] {event} " + " ".join(f"{key}={value}" for key, value in told.items()))
