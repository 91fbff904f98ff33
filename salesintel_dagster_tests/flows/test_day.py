"""One day from source to table: which stages and checks run, in which order, and what stops them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.checks import Severity, Verdict
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import (
    CheckBlocked,
    CommitConflict,
    EmptyReplacement,
    ImageRefused,
    ObjectMissing,
    SourceSchemaMismatch,
    StagesMisaligned,
)
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.flows.export.day import STAGES, DayExport, ExportRules, StageDone
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.export_parts import ALL_CHECKS, ALL_STAGES, FakeExport, export_rules
from salesintel_dagster_tests.fakes.export_run import export_run

DAY = date(2026, 11, 3)
VECTORS = "vectors_are_1024_dim"
ORDER = [name for stage in STAGES for name in (stage, *(p.name for p in promises(1024) if p.stage == stage))]


@pytest.fixture
def world() -> FakeExport:
    made = FakeExport()
    made.sell(DAY, 4)
    return made


def steps(
    world: FakeExport,
    stages: frozenset[str] = ALL_STAGES,
    checks: frozenset[str] = ALL_CHECKS,
    rules: ExportRules | None = None,
    clock: Clock | None = None,
) -> Iterator[StageDone | Verdict]:
    opened = export_run(DAY, clock=clock or held_clock(), ledger=world.ledger)
    world.said = opened.said
    return DayExport(opened.run, world.parts, rules or export_rules()).steps(stages, checks)


def name_of(step: StageDone | Verdict) -> str:
    return step.stage if isinstance(step, StageDone) else step.promise.name


def test_each_stage_is_followed_by_its_checks(world: FakeExport):
    done = list(steps(world))
    assert [name_of(step) for step in done] == ORDER
    assert all(step.passed for step in done if isinstance(step, Verdict))
    assert len(world.rows_of(DAY)) == 4


def test_every_value_is_given_as_soon_as_it_is_true(world: FakeExport):
    running = steps(world)
    assert name_of(next(running)) == SALES_RAW
    assert world.images.calls == []
    assert world.table.commits == []


def test_one_stage_alone_touches_nothing_else(world: FakeExport):
    done = list(steps(world, frozenset({SALES_RAW}), frozenset()))
    assert [name_of(step) for step in done] == [SALES_RAW]
    assert (world.images.calls, world.embedder.calls, world.table.commits) == ([], [], [])


def test_a_stage_without_the_one_before_it_names_what_to_materialise(world: FakeExport):
    with pytest.raises(ObjectMissing, match=f"materialise {SALES_RAW} for {DAY} first"):
        list(steps(world, frozenset({PRODUCT_IMAGES}), frozenset()))


def test_a_stage_may_be_done_again_alone(world: FakeExport):
    list(steps(world))
    list(steps(world, frozenset({TITAN_EMBEDDINGS}), ALL_CHECKS))
    assert len(world.embedder.calls) == 4
    assert len(world.source.reads) == 1


def test_checks_alone_ask_neither_the_source_nor_a_host_nor_the_model_nor_the_ledger(world: FakeExport):
    list(steps(world))
    before = (len(world.source.reads), len(world.images.calls), len(world.embedder.calls), world.ledger.attempts)
    found = list(steps(world, frozenset(), ALL_CHECKS))
    assert [name_of(step) for step in found] == [promise.name for promise in promises(1024)]
    after = (len(world.source.reads), len(world.images.calls), len(world.embedder.calls), world.ledger.attempts)
    assert after == before


def test_only_the_checks_asked_for_are_judged(world: FakeExport):
    done = list(steps(world, checks=frozenset({"table_matches_source"})))
    assert [name_of(step) for step in done] == [*STAGES, "table_matches_source"]


def test_bad_vectors_block_the_commit_and_are_told_before(world: FakeExport):
    """C1"""
    world.store.spoilt.add(DAY)
    done: list[StageDone | Verdict] = []
    with pytest.raises(
        CheckBlocked, match=r"vectors_are_1024_dim: expected .*, found 4 bad \(carousel-labs/S-000001: expected 1024"
    ):
        done.extend(steps(world))  # extend keeps what came before the error
    assert [name_of(step) for step in done] == ORDER[: ORDER.index(VECTORS) + 1]
    assert world.table.commits == []
    assert any("Check failed" in line and "severity=ERROR" in line for line in world.said)


def test_bad_vectors_block_only_where_their_check_was_asked_for(world: FakeExport):
    world.store.spoilt.add(DAY)
    list(steps(world, checks=ALL_CHECKS - {VECTORS}))
    assert len(world.rows_of(DAY)) == 4


def test_a_failed_check_that_does_not_block_lets_the_day_go_on(world: FakeExport):
    for outcomes in world.images.by_url.values():
        outcomes[:] = [ImageRefused(ImageStatus.GONE, "status 410")]
    done = list(steps(world))
    failed = [step.promise.name for step in done if isinstance(step, Verdict) and not step.passed]
    assert failed == ["images_are_there", "null_vector_share"]
    assert {row["embedding_status"] for row in world.rows_of(DAY)} == {"NO_IMAGE"}
    assert sum(line.startswith("[SmartGoExporter] Check failed tenant=carousel-labs") for line in world.said) == 2


def test_what_a_stage_raises_leaves_the_day(world: FakeExport):
    world.source.fail(SourceSchemaMismatch("column sold_price is missing"))
    with pytest.raises(SourceSchemaMismatch):
        list(steps(world))
    assert world.store.objects == {}


def test_a_lost_commit_leaves_the_staged_day_for_the_next_try(world: FakeExport):
    world.table.fail(CommitConflict("another writer"))
    with pytest.raises(CommitConflict):
        list(steps(world))
    list(steps(world))
    assert len(world.embedder.calls) == len(world.images.calls) == 4
    assert len(world.rows_of(DAY)) == 4


def test_an_empty_day_is_done_with_the_evidence_of_its_query():
    """A12"""
    world = FakeExport()
    done = list(steps(world))
    assert [name_of(step) for step in done] == ORDER
    assert all(step.passed for step in done if isinstance(step, Verdict))
    read, *_, written = [step.result for step in done if isinstance(step, StageDone)]
    assert (read.rows, read.evidence, written.rows) == (0, {"source": "memory", "rows": "0"}, 0)


def test_an_empty_source_does_not_replace_a_full_day(world: FakeExport):
    """A11"""
    list(steps(world))
    commits = list(world.table.commits)
    world.source.rows.clear()
    with pytest.raises(EmptyReplacement, match="the table has 4 sales of that day; allow_empty replaces them"):
        list(steps(world))
    assert world.table.commits == commits
    assert len(world.rows_of(DAY)) == 4


def test_an_empty_source_replaces_a_full_day_where_a_person_allows_it(world: FakeExport):
    """A11"""
    list(steps(world))
    world.source.rows.clear()
    done = list(steps(world, rules=export_rules(allow_empty=True)))
    assert world.rows_of(DAY) == []
    assert all(step.passed for step in done if isinstance(step, Verdict))


def test_images_are_downloaded_again_where_a_person_asks_for_it(world: FakeExport):
    list(steps(world))
    list(steps(world))
    assert len(world.images.calls) == 4
    list(steps(world, rules=export_rules(refetch_images=True)))
    assert len(world.images.calls) == 8


@pytest.mark.long
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York"])
def test_the_hour_of_the_run_does_not_change_a_days_rows(zone: str):
    """A1"""
    window = day_window(DAY, ZoneInfo(zone))
    found = []
    for at in (
        window.end + timedelta(hours=3),
        window.end + timedelta(hours=9, minutes=17),
        window.end + timedelta(30),
    ):
        world = FakeExport()
        for offset in (timedelta(0), timedelta(hours=5), timedelta(hours=23, minutes=59), timedelta(hours=24)):
            world.sell(DAY, 1)
            world.source.rows[-1]["sold_at"] = window.start + offset
        opened = export_run(DAY, zone=zone, clock=replace(held_clock(), now=lambda at=at: at))
        list(DayExport(opened.run, world.parts, export_rules()).steps(ALL_STAGES, ALL_CHECKS))
        rows = world.table.rows.drop_columns(["ingestion_timestamp"]).to_pylist()
        assert {row["ingestion_timestamp"] for row in world.table.rows.to_pylist()} == {at}
        found.append(sorted(rows, key=lambda row: row["sale_id"]))
    assert [row["sale_id"] for row in found[0]] == ["S-000001", "S-000002", "S-000003"]
    assert found[0] == found[1] == found[2]


def test_the_edges_of_a_day_belong_to_one_day_each():
    """A2"""
    world = FakeExport()
    midnight = datetime(2026, 11, 3, tzinfo=UTC)
    for at in (midnight, midnight + timedelta(days=1, microseconds=-1), midnight + timedelta(days=1)):
        world.sell(DAY, 1)
        world.source.rows[-1]["sold_at"] = at
    world.run(DAY, DAY + timedelta(days=1))
    assert [row["sale_id"] for row in world.rows_of(DAY)] == ["S-000001", "S-000002"]
    assert [row["sale_id"] for row in world.rows_of(DAY + timedelta(days=1))] == ["S-000003"]


def test_a_day_done_five_times_is_one_day(world: FakeExport):
    """A6"""
    before = None
    for _ in range(5):
        list(steps(world))
        rows = world.table.rows.to_pylist()
        assert before is None or rows == before
        before = rows
    assert len(world.embedder.calls) == len(world.images.calls) == 4


def test_a_sale_that_changed_at_the_source_is_replaced_and_one_that_left_is_gone(world: FakeExport):
    """A5"""
    list(steps(world))
    world.source.rows[0]["sold_price"] = Decimal("5.00")
    del world.source.rows[3]
    done = list(steps(world))
    assert [row["sold_price"] for row in world.rows_of(DAY)] == [Decimal("5.00"), Decimal("19.90"), Decimal("19.90")]
    assert done[ORDER.index("table_matches_source")].found == "3 sales, sum 44.80"


def test_stages_that_speak_of_other_sales_are_never_joined(world: FakeExport):
    list(steps(world))
    world.sell(DAY, 1)
    with pytest.raises(StagesMisaligned, match=f"materialise {PRODUCT_IMAGES} for {DAY} again"):
        list(steps(world, frozenset({SALES_RAW, SMARTGO_SALES}), frozenset()))
    assert len(world.rows_of(DAY)) == 4


def test_a_ledger_that_is_down_is_a_warning_on_every_stage(world: FakeExport):
    """A20"""
    world.ledger.down = True
    done = [step for step in steps(world) if isinstance(step, StageDone)]
    assert {step.warnings for step in done} == {("progress not recorded: the progress table is down",)}
    assert len(world.rows_of(DAY)) == 4


def test_a_share_of_missing_vectors_fails_by_the_runs_own_thresholds(world: FakeExport):
    """C12"""
    next(iter(world.images.by_url.values()))[:] = [ImageRefused(ImageStatus.GONE, "status 404")]
    strict = export_rules(null_vector_warn_share=0.0, null_vector_error_share=0.1)
    lax = export_rules(null_vector_warn_share=0.25, null_vector_error_share=0.5)
    for rules, passed, severity in ((strict, False, Severity.ERROR), (lax, True, Severity.WARN)):
        found = {name_of(step): step for step in steps(world, rules=rules)}["null_vector_share"]
        assert isinstance(found, Verdict)
        assert (found.passed, found.severity) == (passed, severity)


def test_the_log_tells_the_day_in_lines_a_person_can_grep(world: FakeExport):
    list(steps(world))
    told = [re.sub(r"seconds=[\d.]+", "seconds=#", line) for line in world.said]
    where = "tenant=carousel-labs partition=2026-11-03"
    assert f"[SmartGoExporter] Found sales to export {where} sales=4 quarantined=0 duplicates=0 seconds=#" in told
    assert f"[SmartGoExporter] Iceberg write successful {where} rows=4 snapshot=1 seconds=#" in told
