"""The metric sinks by one contract, and the template's alarms against what an export really tells the emulator."""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from salesintel_dagster.adapters.aws import AwsClient, AwsClients
from salesintel_dagster.adapters.cloudwatch import CloudWatchMetrics
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.commands.deploy import choices_of
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import EmbeddingTransient, ImageRefused, MetricsNotSent, TableUnavailable
from salesintel_dagster.domain.metrics import MAX_AT_ONCE, MEASURES, NAMESPACE, Metric, MetricSink
from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport
from salesintel_dagster_tests.fakes.metrics import InMemoryMetrics
from salesintel_dagster_tests.fakes.source import TENANT
from salesintel_dagster_tests.services import Services

STAGE = "test"
NOW = datetime.now(UTC)
DAY = date(2026, 11, 3)


class TestEveryMetricSink:
    @pytest.fixture(params=["memory", "cloudwatch"])
    def sink(self, request: pytest.FixtureRequest) -> MetricSink:
        if request.param == "memory":
            return InMemoryMetrics()
        return CloudWatchMetrics(request.getfixturevalue("aws").client("cloudwatch", brief=True), STAGE)

    def test_every_measure_is_taken(self, sink: MetricSink):
        sink.emit([Metric(measure, 1.5, NOW, {"Tenant": TENANT}) for measure in MEASURES])

    def test_as_many_as_a_request_may_hold_are_taken_at_once(self, sink: MetricSink):
        tenants = [f"{n:063}" for n in range(MAX_AT_ONCE)]
        sink.emit([Metric(MEASURES[0], n / 7, NOW, {"Tenant": tenant}) for n, tenant in enumerate(tenants)])

    def test_a_sink_that_is_down_says_so_in_words_of_ours(self, sink: MetricSink):
        if isinstance(sink, InMemoryMetrics):
            sink.fails = MetricsNotSent("the sink is down")
        else:
            sink._client.meta.events.register("before-call.cloudwatch.*", _cut)
        with pytest.raises(MetricsNotSent) as failure:
            sink.emit([Metric(MEASURES[0], 1, NOW)])
        assert "hunter2" not in str(failure.value)


def _cut(**_: object) -> None:
    raise ConnectTimeoutError(endpoint_url="http://user:hunter2@monitoring")


def test_a_thousand_metrics_are_less_than_a_request_may_weigh(aws: AwsClients):
    """CloudWatch takes 1 MB; a tenant has 63 characters at most, a reason fewer."""
    client = aws.client("cloudwatch", brief=True)
    weights: list[int] = []
    client.meta.events.register("before-sign.cloudwatch.*", lambda request, **_: weights.append(len(request.data)))
    client.meta.events.register("request-created.cloudwatch.*", lambda request, **_: weights.append(len(request.data)))
    longest = max(MEASURES, key=lambda measure: len(measure.name))
    CloudWatchMetrics(client, "s" * 16).emit([Metric(longest, 1 / 3, NOW, {"Tenant": "t" * 63})] * MAX_AT_ONCE)
    assert weights
    assert max(weights) < 1_000_000


@pytest.fixture(scope="module")
def stage() -> str:
    return f"t{secrets.token_hex(5)}"


@pytest.fixture(scope="module")
def told(services: Services, stage: str) -> AwsClient:
    """A day that fails, and days in which much goes wrong, told to the emulator by a real export."""
    aws = AwsClients(services.aws.new_target())
    deploy(aws, stage, lambda _: None, choices=choices_of(Settings(slow_export_seconds=77)))
    cloudwatch: AwsClient = aws.client("cloudwatch", brief=True)
    world = FakeExport()
    world.sell(DAY, 3)
    world.sell(DAY + timedelta(days=1), 3)
    world.embedder.script.append(EmbeddingTransient(EmbeddingStatus.THROTTLED, "ThrottlingException"))
    next(iter(world.images.by_url.values()))[:] = [ImageRefused(ImageStatus.GONE, "404")]
    world.table.fail(TableUnavailable("the catalog is down"))
    world.metrics = CloudWatchMetrics(cloudwatch, stage)  # type: ignore[assignment]
    for day in (DAY, DAY, DAY + timedelta(days=1)):
        list(world.backfill(clock=SYSTEM_CLOCK).run([day], ALL_STAGES, ALL_CHECKS))
    assert not any("Metrics" in line for line in world.said)
    return cloudwatch


class TestTheAlarmsOfTheTemplate:
    def test_each_watches_a_metric_under_dimensions_that_the_export_really_tells(self, told: AwsClient, stage: str):
        alarms = told.describe_alarms(AlarmNamePrefix=f"salesintel-{stage}-")["MetricAlarms"]
        watched = {alarm["AlarmName"].removeprefix(f"salesintel-{stage}-"): alarm for alarm in alarms}
        assert set(watched) == {
            "export-failed",
            "export-missing",
            "export-slow",
            "embedding-throttled",
            "write-failed",
        }
        listed = told.list_metrics(Namespace=NAMESPACE)["Metrics"]
        emitted = {(metric["MetricName"], _pairs(metric)) for metric in listed}
        for alarm in alarms:
            assert alarm["Namespace"] == NAMESPACE
            assert (alarm["MetricName"], _pairs(alarm)) in emitted, alarm["AlarmName"]

    def test_slow_is_what_the_settings_say(self, told: AwsClient, stage: str):
        alarms = told.describe_alarms(AlarmNames=[f"salesintel-{stage}-export-slow"])["MetricAlarms"]
        assert [alarm["Threshold"] for alarm in alarms] == [77]

    def test_each_tells_the_topic_of_alerts(self, told: AwsClient, stage: str):
        for alarm in told.describe_alarms(AlarmNamePrefix=f"salesintel-{stage}-")["MetricAlarms"]:
            [action] = alarm["AlarmActions"]
            assert action.endswith(f":salesintel-alerts-{stage}")
            assert alarm["ActionsEnabled"]

    def test_what_went_wrong_raises_its_alarm_and_no_other(self, told: AwsClient, stage: str):
        alarms = told.describe_alarms(AlarmNamePrefix=f"salesintel-{stage}-")["MetricAlarms"]
        raised = {alarm["AlarmName"].removeprefix(f"salesintel-{stage}-") for alarm in alarms if _is_raised(alarm)}
        assert raised == {"export-failed", "write-failed", "embedding-throttled"}

    def test_what_is_told_is_every_measure_by_stage_and_tenant(self, told: AwsClient, stage: str):
        listed = told.list_metrics(Namespace=NAMESPACE)["Metrics"]
        emitted = {(metric["MetricName"], _pairs(metric)) for metric in listed}
        of_stage = frozenset({("Stage", stage)})
        for measure in MEASURES:
            extra = ("Tenant", TENANT) if measure.by_tenant else ("Reason", "GONE")
            assert (measure.name, of_stage | {extra}) in emitted
            assert ((measure.name, of_stage) in emitted) == measure.by_tenant
        seconds = told.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName="SalesExported",
            Dimensions=[{"Name": "Stage", "Value": stage}],
            StartTime=NOW,  # when this module was collected, a whole suite ago
            EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
            Unit="Count",
        )["Datapoints"]
        assert sum(point["Sum"] for point in seconds) == 6


def _pairs(described: dict[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset((one["Name"], one["Value"]) for one in described["Dimensions"])


def _is_raised(alarm: dict[str, Any]) -> bool:
    return alarm["StateValue"] == "ALARM"
