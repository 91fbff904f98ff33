"""What a run tells the dashboard of its days, on fakes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pytest

from salesintel_dagster.domain.errors import EmbeddingTransient, ImageRefused, SourceUnavailable, TableUnavailable
from salesintel_dagster.domain.metrics import MAX_AT_ONCE, MEASURES, Metric
from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus
from salesintel_dagster.domain.sale import RowRules
from salesintel_dagster.flows.export.backfill import DayFailed
from salesintel_dagster.flows.export.day_metrics import MetricReporter
from salesintel_dagster.flows.export.run import SALES_RAW
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, PoisonedSource
from salesintel_dagster_tests.fakes.metrics import InMemoryMetrics
from salesintel_dagster_tests.fakes.source import TENANT

DAYS = [date(2026, 11, day) for day in range(1, 9)]


@pytest.fixture
def world() -> FakeExport:
    made = FakeExport()
    made.sell(DAYS[0], 6)
    return made


def exported(world: FakeExport, *days: date, stages: frozenset[str] = ALL_STAGES) -> list[DayFailed]:
    steps = [step for _, step in world.backfill().run(days or DAYS[:1], stages, ALL_CHECKS)]
    return [step for step in steps if isinstance(step, DayFailed)]


def single(values: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: value for name, [value] in values.items()}


def test_a_good_day_tells_every_measure_once_and_once_more_by_its_tenant(world: FakeExport):
    world.embedder.script.append(EmbeddingTransient(EmbeddingStatus.THROTTLED, "ThrottlingException"))
    exported(world)
    told = single(world.metrics.values())
    assert told == {
        "ExportSucceeded": 1,
        "ExportFailed": 0,
        "ExportSeconds": pytest.approx(1.125),
        "SalesExported": 6,
        "SalesQuarantined": 0,
        "SalesEmbedded": 6,
        "PaidCalls": 6,
        "EmbeddingThrottles": 1,
        "WriteSeconds": 0,
        "WriteFailed": 0,
    }
    assert single(world.metrics.values(Tenant=TENANT)) == told
    assert {measure.name for measure in MEASURES} == told.keys() | {"SalesWithoutVector"}
    assert len(world.metrics.requests) == 1, "one request a day"


def test_sales_without_a_vector_are_told_by_reason(world: FakeExport):
    first, second, third = list(world.images.by_url)[:3]
    for url in (first, second):
        world.images.by_url[url][:] = [ImageRefused(ImageStatus.GONE, "404")]
    world.images.by_url[third][:] = [ImageRefused(ImageStatus.TOO_LARGE, "11 MB")]
    exported(world)
    assert single(world.metrics.values(Reason="GONE")) == {"SalesWithoutVector": 2}
    assert single(world.metrics.values(Reason="TOO_LARGE")) == {"SalesWithoutVector": 1}
    assert single(world.metrics.values())["SalesEmbedded"] == 3


def test_a_day_that_the_table_does_not_take_failed_and_its_write_did(world: FakeExport):
    world.table.fail(TableUnavailable("the catalog is down"))
    assert exported(world)
    told = single(world.metrics.values())
    assert (told["ExportFailed"], told["ExportSucceeded"], told["WriteFailed"]) == (1, 0, 1)
    assert told["SalesEmbedded"] == 6
    assert "SalesExported" not in told


def test_a_day_that_fails_before_its_write_says_nothing_of_the_table(world: FakeExport):
    world.source.poison[DAYS[0]] = SourceUnavailable("refused")
    assert exported(world)
    told = single(world.metrics.values())
    assert (told["ExportFailed"], told["WriteFailed"]) == (1, 0)


def test_a_source_of_two_tenants_is_told_as_a_whole(world: FakeExport):
    world.source = PoisonedSource(world.source.rows, RowRules(frozenset({TENANT, "other"}), "EUR"))
    exported(world)
    assert {tuple(metric.dimensions) for metric in world.metrics.sent} == {()}


def test_a_stage_alone_is_no_export(world: FakeExport):
    exported(world, stages=frozenset({SALES_RAW}))
    assert world.metrics.sent == []


@pytest.mark.long
@pytest.mark.parametrize("fails", [InMemoryMetrics.down().fails, RuntimeError("canary")])
def test_a_sink_that_is_down_or_broken_is_one_warning_and_two_tries_in_many_days(world: FakeExport, fails: Exception):
    for day in DAYS[1:]:
        world.sell(day, 1)
    world.metrics.fails = fails
    assert exported(world, *DAYS) == []
    assert len(world.table.commits) == len(DAYS)
    assert world.metrics.tries == 2
    [warning] = [line for line in world.said if "Metrics" in line]
    assert warning.startswith("[SmartGoExporter] Metrics not sent, the export goes on: ")
    assert "canary" not in warning


def test_what_a_sink_missed_is_sent_when_it_is_back_at_the_end_of_the_run():
    """In requests of at most 1,000, none of them twice."""
    sink, said = InMemoryMetrics.down(), []
    reporter = MetricReporter(sink, said.append)
    metric = Metric(MEASURES[0], 1, held_clock().now())
    for _ in range(50):
        reporter.tell(iter([metric] * 50))
    assert (sink.tries, len(said)) == (1, 1)
    sink.fails = None
    reporter.settle()
    assert sink.requests == [MAX_AT_ONCE, MAX_AT_ONCE, 500]
    reporter.settle()
    assert len(sink.sent) == 2_500
