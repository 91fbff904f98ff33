"""Many days in one run, one after the other: each from source to commit, none in another's way.

An outage (source, store or table out of reach) ends the run, since every further day would meet it too. Any other
failure, foreseen or not, is that day's own, and the run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import (
    CheckBlocked,
    SalesIntelError,
    SourceUnavailable,
    StoreUnavailable,
    TableUnavailable,
)
from salesintel_dagster.domain.metrics import MetricSink, NoMetrics
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.ports import DayScope, ProgressLedger
from salesintel_dagster.domain.progress import Progress, RunState
from salesintel_dagster.flows.export.day import UNRECORDED_SPEND, DayExport, ExportParts, ExportRules, StageDone
from salesintel_dagster.flows.export.day_metrics import DayMetrics, MetricReporter
from salesintel_dagster.flows.export.embeddings import ImagesEmbedded
from salesintel_dagster.flows.export.images import ImagesFetched
from salesintel_dagster.flows.export.run import SMARTGO_SALES, DayRun, ProgressReporter
from salesintel_dagster.flows.export.sales_raw import SalesRead

SOURCE_SYSTEM = "smartgo"
OUTAGES = (SourceUnavailable, StoreUnavailable, TableUnavailable)
NO_THREAD = "can't start new thread"
"""As Python says it, in a RuntimeError."""


@dataclass(frozen=True, slots=True)
class DayFailed:
    """A day that was not exported, and why. `outage` says that the days after it were not tried."""

    error: Exception
    outage: bool

    @property
    def reason(self) -> str:
        """Why, in words that carry no row and no secret: of an error that nobody foresaw only its type."""
        if isinstance(self.error, SalesIntelError):
            return str(self.error)
        if isinstance(self.error, OSError) and self.error.errno is not None:
            return f"this machine: {os.strerror(self.error.errno)}"
        if isinstance(self.error, RuntimeError) and str(self.error) == NO_THREAD:
            return f"this machine: {NO_THREAD}: raise its limit on processes, or lower the concurrency of the export"
        return f"unexpected {type(self.error).__name__}"


@dataclass(slots=True)
class _Errors:
    """Errors of a day: stages name the first of theirs and count them all."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, named: list[str], count: int) -> None:
        self.named += named
        self.count += count


@dataclass(frozen=True, slots=True)
class Backfill:
    """One run of the export. A nightly run is a backfill of one day."""

    parts: ExportParts
    rules: ExportRules
    ledger: ProgressLedger
    zone: ZoneInfo
    run_id: str
    clock: Clock
    log: Callable[[str], None]
    metrics: MetricSink = field(default_factory=NoMetrics)

    def run(
        self, days: Sequence[date], stages: frozenset[str], checks: frozenset[str]
    ) -> Iterator[tuple[date, StageDone | Verdict | DayFailed]]:
        """Export the days in order, yielding what each stage and check of each day came to."""
        if not days:
            return
        reporter = ProgressReporter(self.ledger, self.clock, self.log, self._starting(days[0]))
        metrics = MetricReporter(self.metrics, self.log)
        try:
            for day in days:
                failed = yield from self._one(self._day_run(day, reporter), stages, checks, metrics)
                if failed is not None:
                    yield day, failed
                    if failed.outage:
                        return
        finally:
            reporter.settle()
            metrics.settle()
            self._settle_budget()

    def _one(
        self, run: DayRun, stages: frozenset[str], checks: frozenset[str], metrics: MetricReporter
    ) -> Generator[tuple[date, StageDone | Verdict], None, DayFailed | None]:
        began = self.clock.monotonic()
        errors, numbers = _Errors(), DayMetrics(run)
        if stages:
            run.say("Starting daily export", run_id=self.run_id, stages=",".join(sorted(stages)))
        try:
            for step in DayExport(run, self.parts, self.rules).steps(stages, checks):
                errors.add(*self._note(run, step))
                numbers.note(step)
                yield run.window.day, step
        except Exception as error:  # noqa: BLE001 - defs raises it as the cause of the run's failure
            failed = DayFailed(error, isinstance(error, OUTAGES))
            if not isinstance(error, CheckBlocked):  # the verdict that blocked is among the errors already
                errors.add([failed.reason], 1)
            self._close(run, stages, RunState.FAILED, errors)
            if SMARTGO_SALES in stages:
                metrics.tell(numbers.measured(error, self.clock.monotonic() - began))
            run.say("Export failed", error=f'"{failed.reason}"', seconds=f"{self.clock.monotonic() - began:.1f}")
            return failed
        except BaseException as error:
            errors.add([f"{type(error).__name__}: stopped"], 1)
            self._close(run, stages, RunState.FAILED, errors)
            raise
        self._close(run, stages, RunState.SUCCEEDED, errors)
        if SMARTGO_SALES in stages:
            metrics.tell(numbers.measured(None, self.clock.monotonic() - began))
        if stages:
            run.say("Export complete", **_totals(run.progress.current), seconds=f"{self.clock.monotonic() - began:.1f}")
        return None

    def _settle_budget(self) -> None:
        budget = self.rules.embeddings.budget
        budget.settle()
        if budget.unavailable is not None:
            self.log(f"[SmartGoExporter] {UNRECORDED_SPEND}, the run's own budget held: {budget.unavailable}")

    def _starting(self, day: date) -> Progress:
        now = self.clock.now()
        return Progress(day, self.run_id, started_at=now, updated_at=now, state=RunState.RUNNING, stage="starting")

    def _day_run(self, day: date, reporter: ProgressReporter) -> DayRun:
        reporter.begin(self._starting(day))
        scope = DayScope(day, tuple(sorted(self.parts.source.rules.tenants)), SOURCE_SYSTEM)
        return DayRun(day_window(day, self.zone), scope, self.run_id, self.clock, self.log, reporter)

    @staticmethod
    def _close(run: DayRun, stages: frozenset[str], state: RunState, errors: _Errors) -> None:
        if stages:
            run.progress.finish(state, errors.named, errors.count)

    @staticmethod
    def _note(run: DayRun, step: StageDone | Verdict) -> tuple[list[str], int]:
        if isinstance(step, Verdict):
            return ([], 0) if step.passed else ([step.sentence()], 1)
        match step.result:
            case SalesRead() as read:
                run.progress.update(sales=read.rows, quarantined=read.quarantined.total)
            case ImagesFetched() as images:
                run.progress.update(images_ok=images.tally.ok, failed=images.tally.failures)
                return list(images.errors), images.tally.failed
            case ImagesEmbedded() as embedded:
                own = {k: n for k, n in embedded.tally.failures.items() if k != EmbeddingStatus.NO_IMAGE}
                run.progress.update(
                    embedded=embedded.tally.ok,
                    paid_calls=embedded.paid_calls,
                    failed={**run.progress.current.failed, **own},
                )
                return list(embedded.errors), sum(own.values())
        return [], 0


def _totals(progress: Progress) -> dict[str, object]:
    failed = ",".join(f"{reason}:{n}" for reason, n in progress.failed.items()) or "none"
    return {
        "sales": progress.sales,
        "quarantined": progress.quarantined,
        "images": progress.images_ok,
        "embedded": progress.embedded,
        "failed": failed,
        "paid_calls": progress.paid_calls,
    }
