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

UNAVAILABLE_SECONDS = 60.0
"""How long a ledger that failed is left alone: an export must not wait for a table that is down."""
REPORT_SECONDS = 3.0
"""How often a running stage tells its counts: seldom enough to cost nothing, often enough to be watched."""

SALES_RAW = "smartgo_sales_raw"
PRODUCT_IMAGES = "product_images"
TITAN_EMBEDDINGS = "titan_embeddings"
SMARTGO_SALES = "smartgo_sales"


@dataclass(slots=True)
class ProgressReporter:
    """Writes a run's progress, day by day and at most every few seconds.

    A ledger that is down costs a warning and one try a minute, however many days the run has: the final records that
    it missed are owed to it until `settle`.
    """

    ledger: ProgressLedger
    clock: Clock
    log: Callable[[str], None]
    current: Progress
    unavailable: str | None = None
    _next_write_at: float = field(default=float("-inf"))
    _owed: list[Progress] = field(default_factory=list)

    def begin(self, progress: Progress) -> None:
        """Go on with the next day's record."""
        self.current = progress
        if self.unavailable is None:
            self._next_write_at = float("-inf")

    def update(self, *, force: bool = False, **changes: object) -> None:
        """Take new numbers; write them when the last write is old enough, or when `force` is given."""
        self.current = replace(self.current, updated_at=self.clock.now(), **changes)  # type: ignore[arg-type]
        due = self.clock.monotonic() >= self._next_write_at
        if due or (force and self.unavailable is None):
            self._write()

    def finish(self, state: RunState, errors: list[str], error_count: int) -> None:
        """Write the final record: the first errors by name, and how many there were in all."""
        self.update(
            force=True,
            state=state,
            finished_at=self.clock.now(),
            errors=bounded_errors(errors),
            error_count=error_count,
        )
        if self.unavailable is not None:
            self._owed.append(self.current)

    def settle(self) -> None:
        """Try once more to write the final records that the ledger missed, up to the first that it refuses."""
        owed, self._owed = self._owed, []
        for record in owed:
            self.current = record
            self._write()
            if self.unavailable is not None:
                return

    def _write(self) -> None:
        self._next_write_at = self.clock.monotonic() + REPORT_SECONDS
        try:
            self.ledger.record(self.current)
            self.unavailable = None
        except ProgressUnavailable as error:
            if self.unavailable is None:
                self.log(f"[SmartGoExporter] Progress not recorded, the export goes on: {error}")
            self.unavailable = str(error)
            self._next_write_at = self.clock.monotonic() + UNAVAILABLE_SECONDS


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
