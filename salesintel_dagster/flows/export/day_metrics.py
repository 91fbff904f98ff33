"""A day's numbers for the dashboard, told at the day's end; a sink that is down costs one warning and two tries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.errors import MetricsNotSent, TableError
from salesintel_dagster.domain.metrics import (
    EMBEDDED,
    FAILED,
    MAX_AT_ONCE,
    PAID_CALLS,
    QUARANTINED,
    REASON,
    SALES,
    SECONDS,
    SUCCEEDED,
    TENANT,
    THROTTLES,
    WITHOUT_VECTOR,
    WRITE_FAILED,
    WRITE_SECONDS,
    Measure,
    Metric,
    MetricSink,
)
from salesintel_dagster.flows.export.day import StageDone
from salesintel_dagster.flows.export.embeddings import ImagesEmbedded
from salesintel_dagster.flows.export.run import DayRun
from salesintel_dagster.flows.export.sales import SalesWritten


@dataclass(slots=True)
class DayMetrics:
    """What one day came to. Only stages that ran have numbers."""

    run: DayRun
    _values: dict[Measure, float] = field(default_factory=dict)

    def note(self, step: StageDone | Verdict) -> None:
        """Take the numbers that the progress record does not have."""
        match step:
            case StageDone(result=ImagesEmbedded() as embedded):
                self._values |= {THROTTLES: embedded.throttles, EMBEDDED: embedded.tally.ok}
            case StageDone(result=SalesWritten() as written):
                self._values |= {SALES: written.rows, WRITE_SECONDS: written.commit.seconds}
            case _:
                pass

    def measured(self, error: Exception | None, seconds: float) -> Iterator[Metric]:
        """Yield the day's metrics, now that it has ended, by `error` if it failed."""
        progress = self.run.progress.current
        values: Mapping[Measure, float] = {
            SUCCEEDED: float(error is None),
            FAILED: float(error is not None),
            SECONDS: seconds,
            QUARANTINED: progress.quarantined,
            PAID_CALLS: progress.paid_calls,
            WRITE_FAILED: float(isinstance(error, TableError)),
            **self._values,
        }
        now = self.run.clock.now()
        tenants = self.run.scope.tenants
        for measure, value in values.items():
            yield Metric(measure, value, now)
            if measure.by_tenant and len(tenants) == 1:
                yield Metric(measure, value, now, {TENANT: tenants[0]})
        for reason, count in progress.failed.items():
            yield Metric(WITHOUT_VECTOR, count, now, {REASON: reason})


@dataclass(slots=True)
class MetricReporter:
    """Hands a run's metrics to the sink. What did not arrive is tried once more when the run ends."""

    sink: MetricSink
    log: Callable[[str], None]
    unavailable: str | None = None
    _owed: list[Metric] = field(default_factory=list)

    def tell(self, metrics: Iterator[Metric]) -> None:
        """Send these, unless the sink is known to be down."""
        self._owed += metrics
        if self.unavailable is None:
            self._send()

    def settle(self) -> None:
        """Send what is left."""
        self._send()

    def _send(self) -> None:
        try:
            while self._owed:
                self.sink.emit(self._owed[:MAX_AT_ONCE])
                del self._owed[:MAX_AT_ONCE]
        except MetricsNotSent as error:
            self._miss(str(error))
        except Exception as error:  # noqa: BLE001 - a sink's bug must not fail a day that is in the table
            self._miss(f"{type(error).__name__} in the sink")

    def _miss(self, why: str) -> None:
        if self.unavailable is None:
            self.log(f"[SmartGoExporter] Metrics not sent, the export goes on: {why}")
        self.unavailable = why
