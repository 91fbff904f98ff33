"""Metrics in CloudWatch, by PutMetricData (docs/decisions/0008-cost-metrics-encryption.md).

Give it a brief client: no export waits for its metrics. A reply that is lost may make botocore count a value twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, told
from salesintel_dagster.domain.errors import MetricsNotSent
from salesintel_dagster.domain.metrics import NAMESPACE, STAGE, Metric, MetricSink


class CloudWatchMetrics(MetricSink):
    """The namespace `SalesIntel`; every metric carries the deployment's stage."""

    def __init__(self, client: AwsClient, stage: str) -> None:
        self._client = client
        self._stage = stage

    def emit(self, metrics: Sequence[Metric]) -> None:
        """Put them in one request. Raises MetricsNotSent."""
        try:
            self._client.put_metric_data(Namespace=NAMESPACE, MetricData=[self._datum(metric) for metric in metrics])
        except (ClientError, BotoCoreError) as error:
            raise MetricsNotSent(f"CloudWatch namespace {NAMESPACE}: {told(error)}") from None

    def _datum(self, metric: Metric) -> dict[str, Any]:
        dimensions = {STAGE: self._stage, **metric.dimensions}
        return {
            "MetricName": metric.measure.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "Timestamp": metric.at,
            "Value": float(metric.value),
            "Unit": metric.measure.unit.value,
        }
