"""Many days in one run: a day fails alone, an outage ends the run, and the ledger and the log tell each day."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from datetime import date

import pytest

from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.checks import Verdict
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import (
    CommitConflict,
    EmbeddingRefused,
    ImageRefused,
    ImageTransient,
    SalesIntelError,
    SourceSchemaMismatch,
    SourceUnavailable,
    StoreUnavailable,
    TableUnavailable,
)
from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus
from salesintel_dagster.domain.ports import FetchedImage
from salesintel_dagster.domain.progress import MAX_ERRORS_KEPT, Progress, RunState
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.backfill import DayFailed
from salesintel_dagster.flows.export.day import STAGES, StageDone
from salesintel_dagster.flows.export.embeddings import CallBudget, EmbeddingLimits
from salesintel_dagster.flows.export.host_patience import SECONDS_OF_A_HOST
from salesintel_dagster.flows.export.images import ImageLimits
from salesintel_dagster.flows.export.run import SALES_RAW
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.images import HeldClock, ScriptedImages, picture
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable

MONTH = days_between(date(2026, 11, 1), date(2026, 11, 28))
DAYS = MONTH[:5]
BAD = DAYS[2]


def four_sales_a_day(days: Sequence[date] = DAYS) -> FakeExport:
    world = FakeExport()
    for day in days:
        world.sell(day, 4)
    return world


def run(world: FakeExport, days: Sequence[date] = DAYS) -> dict[date, DayFailed]:
    steps = world.backfill().run(days, ALL_STAGES, ALL_CHECKS)
    return {day: step for day, step in steps if isinstance(step, DayFailed)}


def days_in_table(world: FakeExport) -> list[date]:
    return sorted(set(world.table.rows["sold_date"].to_pylist()))


def record_of(world: FakeExport, day: date) -> Progress:
    record = world.ledger.newest(day)
    assert record is not None
    return record


def test_every_day_goes_from_source_to_commit_before_the_next_begins():
    world = four_sales_a_day(DAYS[:3])
    done = [
        (day, step.stage)
        for day, step in world.backfill().run(DAYS[:3], ALL_STAGES, ALL_CHECKS)
        if isinstance(step, StageDone)
    ]
    assert done == [(day, stage) for day in DAYS[:3] for stage in STAGES]
    assert days_in_table(world) == DAYS[:3]


def test_a_run_that_is_left_in_the_middle_keeps_the_days_it_has_committed():
    world = four_sales_a_day()
    running = world.backfill().run(DAYS, ALL_STAGES, ALL_CHECKS)
    for day, _step in running:
        if day == BAD:
            break
    running.close()
    assert days_in_table(world) == DAYS[:2]
    assert record_of(world, BAD).state is RunState.FAILED
    assert record_of(world, BAD).errors == ("GeneratorExit: stopped",)


@pytest.mark.parametrize(
    "error, days",
    [
        pytest.param(SourceSchemaMismatch("column sold_price is missing"), MONTH, marks=pytest.mark.long),
        (SourceSchemaMismatch("column sold_price is missing"), DAYS),
        (CommitConflict("lost"), DAYS),
        (SalesIntelError("some rule"), DAYS),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else f"of {len(given)}",
)
def test_one_bad_day_fails_alone_and_is_done_by_itself_later(error: SalesIntelError, days: Sequence[date]):
    """A10"""
    world = four_sales_a_day(days)
    world.source.poison[BAD] = error
    failed = run(world, days)
    assert failed == {BAD: DayFailed(error, outage=False)}
    assert days_in_table(world) == [day for day in days if day != BAD]
    assert record_of(world, BAD).state is RunState.FAILED
    world.source.poison.clear()
    reads, calls = len(world.source.reads), len(world.embedder.calls)
    assert run(world, [BAD]) == {}
    assert days_in_table(world) == days
    assert (len(world.source.reads) - reads, len(world.embedder.calls) - calls) == (1, 4)


def test_an_error_that_nobody_foresaw_is_that_days_own_and_tells_no_content():
    world = four_sales_a_day()
    error = ValueError("row of Jane Doe, password hunter2")
    world.source.poison[BAD] = error
    failed = run(world)
    assert failed[BAD].error is error
    assert failed[BAD].reason == "unexpected ValueError"
    assert days_in_table(world) == [day for day in DAYS if day != BAD]
    assert record_of(world, BAD).errors == ("unexpected ValueError",)
    assert not [line for line in world.said if "hunter2" in line]


def test_a_machine_that_starts_no_more_threads_is_told_with_what_to_do_about_it():
    world = four_sales_a_day(DAYS[:1])
    before = threading.stack_size(2**46)  # more than there is: as where a limit on processes is reached
    try:
        failed = run(world, DAYS[:1])
    finally:
        threading.stack_size(before)
    assert failed[DAYS[0]].reason == (
        "this machine: can't start new thread: raise its limit on processes, or lower the concurrency of the export"
    )
    assert run(world, DAYS[:1]) == {}
    assert days_in_table(world) == DAYS[:1]


def test_an_interrupt_ends_the_run_at_once_and_the_ledger_knows():
    world = four_sales_a_day()
    world.source.poison[BAD] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        run(world)
    assert days_in_table(world) == DAYS[:2]
    record = record_of(world, BAD)
    assert (record.state, record.errors) == (RunState.FAILED, ("KeyboardInterrupt: stopped",))
    assert world.ledger.newest(DAYS[3]) is None


@pytest.mark.long
@pytest.mark.parametrize("kind", [SourceUnavailable, StoreUnavailable, TableUnavailable])
def test_an_outage_ends_the_run_and_the_days_after_it_are_not_tried(kind: type[SalesIntelError]):
    world = four_sales_a_day()
    world.source.poison[BAD] = kind("refused")
    failed = run(world)
    assert list(failed) == [BAD]
    assert failed[BAD].outage
    assert sorted({window.day for window in world.source.reads}) == DAYS[:3]
    assert days_in_table(world) == DAYS[:2]


def test_bad_vectors_block_their_own_day_and_no_other():
    """C1"""
    world = four_sales_a_day()
    world.store.spoilt.add(BAD)
    failed = run(world)
    assert list(failed) == [BAD]
    assert "titan_embeddings.vectors_are_1024_dim" in failed[BAD].reason
    assert days_in_table(world) == [day for day in DAYS if day != BAD]


def test_the_days_of_a_run_share_one_budget():
    """C7"""
    world = four_sales_a_day(DAYS[:3])
    limits = EmbeddingLimits(2, CallBudget(6), export_rules().embeddings.retry)
    list(world.backfill(export_rules(embeddings=limits)).run(DAYS[:3], ALL_STAGES, ALL_CHECKS))
    assert len(world.embedder.calls) == 6
    assert [record_of(world, day).failed for day in DAYS[:3]] == [
        {},
        {"BUDGET_EXHAUSTED": 2},
        {"BUDGET_EXHAUSTED": 4},
    ]
    list(world.backfill().run(DAYS[:3], ALL_STAGES, ALL_CHECKS))
    assert len(world.embedder.calls) == 12
    assert world.table.rows["embedding_vector"].null_count == 0


def test_the_ledger_holds_each_days_numbers():
    world = four_sales_a_day(DAYS[:2])
    first, second, third, fourth = (str(row["image_url"]) for row in world.source.rows[:4])
    world.images.by_url[first][:] = [ImageRefused(ImageStatus.GONE, "status 404")]
    world.images.by_url[second][:] = [ImageRefused(ImageStatus.TOO_LARGE, "11 MB")]
    world.embedder.by_image[picture(3)] = EmbeddingRefused(EmbeddingStatus.REFUSED_BY_MODEL, "too dark")
    run(world, DAYS[:2])
    record = record_of(world, DAYS[0])
    assert (record.state, record.sales, record.images_ok, record.embedded, record.paid_calls) == (
        RunState.SUCCEEDED,
        4,
        2,
        1,
        2,
    )
    assert record.failed == {"GONE": 1, "TOO_LARGE": 1, "REFUSED_BY_MODEL": 1}
    assert {third, fourth} <= set(world.images.calls)
    clean = record_of(world, DAYS[1])
    assert (clean.sales, clean.embedded, clean.failed, clean.errors, clean.error_count) == (4, 4, {}, (), 0)


def test_errors_are_counted_in_all_and_named_first_come_first():
    """A23"""
    world = FakeExport()
    world.sell(BAD, 60)
    for outcomes in world.images.by_url.values():
        outcomes[:] = [ImageRefused(ImageStatus.GONE, "status 404")]
    run(world, [BAD])
    record = record_of(world, BAD)
    failed_checks = 2  # images_are_there, null_vector_share
    assert record.error_count == 60 + failed_checks
    assert len(record.errors) == MAX_ERRORS_KEPT
    assert record.errors[0] == "S-000001: GONE: status 404"


def test_a_check_that_blocks_is_one_error():
    world = four_sales_a_day([BAD])
    world.store.spoilt.add(BAD)
    run(world, [BAD])
    record = record_of(world, BAD)
    assert (record.error_count, len(record.errors)) == (1, 1)
    assert "vectors_are_1024_dim" in record.errors[0]


def test_a_ledger_that_is_down_costs_a_run_two_tries_however_many_days_it_has():
    """A20"""
    world = four_sales_a_day()
    world.ledger.down = True
    assert run(world) == {}
    assert days_in_table(world) == DAYS
    assert world.ledger.attempts == 2
    assert sum("Progress not recorded" in line for line in world.said) == 1


def test_the_days_that_a_ledger_missed_are_told_to_it_when_it_is_back_before_the_end():
    """A20"""
    world = four_sales_a_day(DAYS[:4])
    world.ledger.down = True
    for day, step in world.backfill().run(DAYS[:4], ALL_STAGES, ALL_CHECKS):
        if day == DAYS[3] and isinstance(step, Verdict):
            world.ledger.down = False
    assert [record_of(world, day).state for day in DAYS[:4]] == [RunState.SUCCEEDED] * 4
    assert [record_of(world, day).sales for day in DAYS[:4]] == [4] * 4


def test_checks_alone_leave_the_ledger_and_its_records_as_they_are():
    world = four_sales_a_day(DAYS[:2])
    run(world, DAYS[:2])
    before = list(world.ledger.recorded)
    list(world.backfill(run_id="run-2").run(DAYS[:2], frozenset(), ALL_CHECKS))
    assert world.ledger.recorded == before


def test_a_run_over_no_day_does_nothing():
    world = FakeExport()
    assert run(world, []) == {}
    assert (world.said, world.ledger.attempts) == ([], 0)


def test_the_tenants_of_the_source_are_the_scope_of_the_day():
    world = four_sales_a_day([BAD])
    run(world, [BAD])
    scope, properties = world.table.commits[0]
    assert (scope.day, scope.tenants, scope.source_system) == (BAD, ("carousel-labs",), "smartgo")
    assert properties["salesintel.run-id"] == "run-1"


def test_the_log_tells_the_day_from_start_to_end():
    world = four_sales_a_day([BAD])
    run(world, [BAD])
    where = "tenant=carousel-labs partition=2026-11-03"
    told = [re.sub(r"(seconds|per_second)=[\d.]+", r"\1=#", line) for line in world.said]
    assert told[0] == (
        f"[SmartGoExporter] Starting daily export {where} run_id=run-1 "
        "stages=product_images,smartgo_sales,smartgo_sales_raw,titan_embeddings"
    )
    events = [" ".join(line.split(" tenant=")[0].split()[1:]) for line in told]
    assert [event for event in events if "images" not in event and "mbed" not in event] == [
        "Starting daily export",
        "Found sales to export",
        "Iceberg write successful",
        "Export complete",
    ]
    assert told[-1] == (
        f"[SmartGoExporter] Export complete {where} sales=4 quarantined=0 images=4 embedded=4 failed=none "
        "paid_calls=4 seconds=#"
    )


def test_the_log_tells_why_a_day_failed():
    world = four_sales_a_day([BAD])
    world.source.poison[BAD] = SourceSchemaMismatch("column sold_price is missing")
    run(world, [BAD])
    assert world.said[-1] == (
        "[SmartGoExporter] Export failed tenant=carousel-labs partition=2026-11-03 "
        'error="column sold_price is missing" seconds=0.0'
    )


def test_a_table_that_goes_down_after_the_commit_leaves_the_day_committed_and_the_run_ended():
    class Fading(InMemorySalesTable):
        def day_facts(self, scope: object) -> object:
            raise TableUnavailable(f"the catalog is down, asked for {scope}")

    world = four_sales_a_day(DAYS[:2])
    world.table = Fading()
    failed = run(world, DAYS[:2])
    assert list(failed) == [DAYS[0]]
    assert failed[DAYS[0]].outage
    assert days_in_table(world) == [DAYS[0]]


def test_one_stage_alone_may_be_run_over_many_days():
    world = four_sales_a_day(DAYS[:3])
    done = list(world.backfill().run(DAYS[:3], frozenset({SALES_RAW}), frozenset()))
    assert [day for day, _ in done] == DAYS[:3]
    assert len(list(world.store.keys("staging/smartgo/smartgo_sales_raw/"))) == 3


class HangingImages(ScriptedImages):
    """Every host uses up the whole deadline of each image."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def fetch(self, url: str, deadline_seconds: float) -> FetchedImage:
        super().fetch(url, deadline_seconds)
        self._clock.sleep(deadline_seconds)
        raise ImageTransient(ImageStatus.TIMEOUT, "did not answer in time")


@pytest.mark.long
def test_a_host_that_hangs_costs_a_run_its_hour_once_however_many_days_the_run_has():
    """B5: 150 sales a day of one such host took 37 minutes each; thirty days are 18 hours, and a run has 4."""
    clock = HeldClock().clock
    world = FakeExport(images=HangingImages(clock))
    for day in DAYS:
        world.sell(day, 60)
    rules = export_rules(images=ImageLimits(1, 1, RetryPolicy()))
    for _ in world.backfill(rules, clock=clock).run(DAYS, ALL_STAGES, ALL_CHECKS):
        pass
    assert clock.monotonic() == SECONDS_OF_A_HOST
    assert days_in_table(world) == DAYS
    assert [record_of(world, day).failed for day in DAYS] == [{"TIMEOUT": 60}] * len(DAYS)
