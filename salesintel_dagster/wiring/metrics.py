"""Where the metrics of this deployment go."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.cloudwatch import CloudWatchMetrics
from salesintel_dagster.domain.metrics import MetricSink
from salesintel_dagster.settings import Settings


def metric_sink(settings: Settings, clients: AwsClients) -> MetricSink:
    """Return CloudWatch, or the emulator's."""
    return CloudWatchMetrics(clients.client("cloudwatch", brief=True), settings.stage)
