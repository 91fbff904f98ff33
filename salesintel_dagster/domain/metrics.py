"""What an export tells a dashboard of each day: the measures, and the port that takes them.

The alarms of `infrastructure.yaml` and the table of `docs/metrics.md` are held against `MEASURES` by tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

NAMESPACE = "SalesIntel"
STAGE, TENANT, REASON = "Stage", "Tenant", "Reason"
"""Dimensions. Each measure has `Stage`; `Reason` is one of the closed vocabularies of `outcome`."""

MAX_AT_ONCE = 1_000
"""CloudWatch takes so many in a request, of 1 MB at most; one of ours is about 200 bytes."""


class Unit(StrEnum):
    """CloudWatch's names."""

    COUNT = "Count"
    SECONDS = "Seconds"


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a day. `by_tenant`: told once more with the tenant, where the source has one tenant only."""

    name: str
    unit: Unit
    meaning: str
    by_tenant: bool = True


SUCCEEDED = Measure("ExportSucceeded", Unit.COUNT, "1 for a day that was exported, 0 for one that failed")
FAILED = Measure("ExportFailed", Unit.COUNT, "1 for a day that failed, 0 for one that was exported")
SECONDS = Measure("ExportSeconds", Unit.SECONDS, "how long the day took, from source to checks")
SALES = Measure("SalesExported", Unit.COUNT, "rows that the day has in the table")
QUARANTINED = Measure("SalesQuarantined", Unit.COUNT, "source rows that were not taken")
EMBEDDED = Measure("SalesEmbedded", Unit.COUNT, "sales with a vector")
WITHOUT_VECTOR = Measure(
    "SalesWithoutVector",
    Unit.COUNT,
    "sales without a vector, by why: an image's or an embedding's status",
    by_tenant=False,
)
PAID_CALLS = Measure("PaidCalls", Unit.COUNT, "embedding calls that may be on the bill")
THROTTLES = Measure(
    "EmbeddingThrottles", Unit.COUNT, "calls that the quota still refused after the client's own retries"
)
WRITE_SECONDS = Measure("WriteSeconds", Unit.SECONDS, "how long the commit to Iceberg took, its retries included")
WRITE_FAILED = Measure("WriteFailed", Unit.COUNT, "1 for a day that the table did not take, else 0")

MEASURES = (
    SUCCEEDED,
    FAILED,
    SECONDS,
    SALES,
    QUARANTINED,
    EMBEDDED,
    WITHOUT_VECTOR,
    PAID_CALLS,
    THROTTLES,
    WRITE_SECONDS,
    WRITE_FAILED,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of a measure. `dimensions` without `Stage`, which the sink adds."""

    measure: Measure
    value: float
    at: datetime
    dimensions: Mapping[str, str] = field(default_factory=dict)


class MetricSink(ABC):
    """Where metrics go. Losing them never fails an export."""

    @abstractmethod
    def emit(self, metrics: Sequence[Metric]) -> None:
        """Hand over at most `MAX_AT_ONCE` within seconds, all or none. Raises MetricsNotSent."""


class NoMetrics(MetricSink):
    """Takes everything and tells nobody."""

    def emit(self, metrics: Sequence[Metric]) -> None:
        """Drop them."""
