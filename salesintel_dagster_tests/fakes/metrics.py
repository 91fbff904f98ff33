"""The metric sink in memory, which can be down."""

from __future__ import annotations

from collections.abc import Sequence

from salesintel_dagster.domain.errors import MetricsNotSent
from salesintel_dagster.domain.metrics import MAX_AT_ONCE, Metric, MetricSink


class InMemoryMetrics(MetricSink):
    """`sent` is what arrived, `requests` how much in each; `fails` is raised by every call, counted in `tries`."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.tries = 0
        self.sent: list[Metric] = []
        self.requests: list[int] = []

    @classmethod
    def down(cls) -> InMemoryMetrics:
        return cls(MetricsNotSent("the sink is down"))

    def emit(self, metrics: Sequence[Metric]) -> None:
        self.tries += 1
        assert 0 < len(metrics) <= MAX_AT_ONCE
        if self.fails is not None:
            raise self.fails
        self.sent += metrics
        self.requests.append(len(metrics))

    def values(self, **dimensions: str) -> dict[str, list[float]]:
        """Return what was told under exactly these dimensions, by measure, in order."""
        found: dict[str, list[float]] = {}
        for metric in self.sent:
            if dict(metric.dimensions) == dimensions:
                found.setdefault(metric.measure.name, []).append(metric.value)
        return found
