"""The export as Dagster runs it: partitions, checks, run configuration, metadata and the schedule, on fakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import dagster as dg
import pytest
from PIL import Image

from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.defs.smartgo_export import JOB
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.checks import MAX_OFFENDERS_NAMED
from salesintel_dagster.domain.errors import ImageRefused, SettingInvalid, SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.progress import RunState
from salesintel_dagster.flows.export.day import STAGES
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS
from salesintel_dagster.flows.export.thumbnails import THUMBNAIL_PIXELS
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import QUIET, DagsterExport, dagster_export
from salesintel_dagster_tests.fakes.source import sale_row

DAYS = days_between(date(2026, 10, 1), date(2026, 10, 28))
DAY = DAYS[0]
BAD = DAYS[9]
VECTORS = "vectors_are_1024_dim"


@pytest.fixture
def export() -> Iterator[DagsterExport]:
    with dagster_export() as opened:
        yield opened


def sell(export: DagsterExport, days: list[date], count: int = 3) -> None:
    for day in days:
        export.world.sell(day, count)


def days_in_table(export: DagsterExport) -> list[date]:
    return sorted(set(export.world.table.rows["sold_date"].to_pylist()))


def test_a_day_materialises_four_assets_in_order_with_all_their_checks(export: DagsterExport):
    sell(export, [DAY])
    run = export.run(DAY)
    assert run.success
    assert run.materialised == [(stage, DAY.isoformat()) for stage in STAGES]
    assert len(run.verdicts) == len(promises(1024))
    assert {found.partition for found in run.verdicts} == {DAY.isoformat()}
    assert run.failed_checks() == []


def test_one_bad_day_of_28_fails_alone_is_named_and_is_all_that_a_rerun_does(export: DagsterExport):
    """A10"""
    sell(export, DAYS)
    export.world.source.poison[BAD] = SourceSchemaMismatch("column sold_price is missing")
    run = export.run(*DAYS)
    assert not run.success
    assert run.reason == (f"1 of 28 days failed: {BAD}: column sold_price is missing. Materialise again: {BAD}")
    good = [day for day in DAYS if day != BAD]
    assert days_in_table(export) == good
    for stage in STAGES:
        assert export.status(stage, DAYS) == dict.fromkeys(DAYS, "MATERIALIZED") | {BAD: "FAILED"}
    export.world.source.poison.clear()
    failed = [day for day, status in export.status(SMARTGO_SALES, DAYS).items() if status == "FAILED"]
    again = export.run(*failed)
    assert again.success
    assert again.materialised == [(stage, BAD.isoformat()) for stage in STAGES]
    assert days_in_table(export) == DAYS
    assert export.status(SMARTGO_SALES, DAYS) == dict.fromkeys(DAYS, "MATERIALIZED")
    assert [window.day for window in export.world.source.reads[28:]] == [BAD]


def test_checks_that_the_ui_starts_without_a_day_say_what_to_do_instead(export: DagsterExport):
    run = export.run(checks=[(SMARTGO_SALES, "table_ids_are_unique")])
    assert run.reason.startswith("This run names no day")
    assert "Materialise the day instead" in run.reason


def test_two_bad_days_are_both_named(export: DagsterExport):
    """A10"""
    sell(export, DAYS[:4])
    for day in DAYS[1:3]:
        export.world.source.poison[day] = SourceSchemaMismatch(f"no column on {day.day}")
    assert export.run(*DAYS[:4]).reason == (
        f"2 of 4 days failed: {DAYS[1]}: no column on 2; {DAYS[2]}: no column on 3. "
        f"Materialise again: {DAYS[1]} {DAYS[2]}"
    )


def test_an_unforeseen_error_is_the_cause_of_the_runs_failure_with_its_traceback(export: DagsterExport):
    sell(export, DAYS[:3])
    export.world.source.poison[DAYS[1]] = ZeroDivisionError("a bug")
    run = export.run(*DAYS[:3])
    assert run.reason.startswith(f"1 of 3 days failed: {DAYS[1]}: unexpected ZeroDivisionError")
    error = run.failure.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    assert error.cause.cls_name == "ZeroDivisionError"
    assert "export_parts.py" in "".join(error.cause.stack)
    assert days_in_table(export) == [DAYS[0], DAYS[2]]


def test_an_outage_ends_the_run_and_says_that_the_rest_was_not_tried(export: DagsterExport):
    sell(export, DAYS[:4])
    export.world.source.poison[DAYS[1]] = SourceUnavailable("the database refused")
    run = export.run(*DAYS[:4])
    assert run.reason == (
        f"1 of 4 days failed: {DAYS[1]}: the database refused. An outage: the days after it were not tried. "
        f"Materialise again: {' '.join(str(day) for day in DAYS[1:4])}"
    )
    assert days_in_table(export) == [DAYS[0]]
    assert export.status(SMARTGO_SALES, DAYS[:4]) == {
        DAYS[0]: "MATERIALIZED",
        DAYS[1]: "FAILED",
        DAYS[2]: "FAILED",
        DAYS[3]: "FAILED",
    }


def test_one_asset_may_be_materialised_alone_with_its_own_checks(export: DagsterExport):
    sell(export, [DAY])
    run = export.run(DAY, assets=[SALES_RAW])
    assert run.materialised == [(SALES_RAW, DAY.isoformat())]
    assert {found.asset_key.to_user_string() for found in run.verdicts} == {SALES_RAW}
    assert len(run.verdicts) == 3
    assert export.world.images.calls == []
    assert export.status(SMARTGO_SALES, [DAY]) == {DAY: None}


def test_an_asset_whose_upstream_never_ran_fails_with_what_to_materialise(export: DagsterExport):
    run = export.run(DAY, assets=[PRODUCT_IMAGES])
    assert f"materialise {SALES_RAW} for {DAY} first" in run.reason


def test_checks_may_be_run_alone_and_see_what_a_hand_has_planted(export: DagsterExport):
    """C11"""
    sell(export, [DAY])
    export.run(DAY)
    check = (TITAN_EMBEDDINGS, VECTORS)
    good = export.run(DAY, checks=[check])
    assert (good.success, good.materialised) == (True, [])
    assert [found.check_name for found in good.verdicts] == [VECTORS]
    export.world.store.spoil(DAY)
    bad = export.run(DAY, checks=[check])
    assert not bad.success
    assert bad.failed_checks() == [(DAY.isoformat(), VECTORS)]


def test_planted_bad_vectors_fail_the_blocking_check_of_their_day_and_hold_back_only_its_commit(
    export: DagsterExport,
):
    """C1"""
    sell(export, DAYS[:3], count=MAX_OFFENDERS_NAMED + 5)
    export.world.store.spoilt.add(DAYS[1])
    run = export.run(*DAYS[:3])
    assert not run.success
    assert f"1 of 3 days failed: {DAYS[1]}: {TITAN_EMBEDDINGS}.{VECTORS}" in run.reason
    [found] = [found for found in run.verdicts if found.check_name == VECTORS and not found.passed]
    assert (found.partition, found.severity, found.blocking) == (
        DAYS[1].isoformat(),
        dg.AssetCheckSeverity.ERROR,
        True,
    )
    named = str(found.metadata["offenders_named"].value).split(", carousel-labs/")
    assert len(named) == MAX_OFFENDERS_NAMED
    assert named[0] == "carousel-labs/S-000026: expected 1024 values, found 1023"
    assert found.metadata["offenders"].value == MAX_OFFENDERS_NAMED + 5
    assert found.metadata["found"].value == "25 bad"
    assert found.metadata["partition"].value == DAYS[1].isoformat()
    assert days_in_table(export) == [DAYS[0], DAYS[2]]
    assert export.status(SMARTGO_SALES, DAYS[:3])[DAYS[1]] == "FAILED"
    assert export.status(TITAN_EMBEDDINGS, DAYS[:3])[DAYS[1]] == "MATERIALIZED"


def test_a_progress_table_that_is_down_is_a_warning_in_the_metadata_of_a_green_run(export: DagsterExport):
    """A20"""
    sell(export, [DAY])
    export.world.ledger.down = True
    run = export.run(DAY)
    assert run.success
    for stage in STAGES:
        assert run.metadata(stage, DAY)["warnings"] == "progress not recorded: the progress table is down"
    export.world.ledger.down = False
    assert "warnings" not in export.run(DAY).metadata(SALES_RAW, DAY)


def test_an_empty_source_replaces_a_full_day_only_by_run_configuration(export: DagsterExport):
    """A11"""
    sell(export, [DAY])
    export.run(DAY)
    export.world.source.rows.clear()
    commits = list(export.world.table.commits)
    refused = export.run(DAY)
    assert "the table has 3 sales of that day; allow_empty replaces them" in refused.reason
    assert export.world.table.commits == commits
    allowed = export.run(DAY, allow_empty=True)
    assert allowed.success
    assert allowed.metadata(SMARTGO_SALES, DAY)["rows_replaced"] == 3
    assert days_in_table(export) == []


def test_an_empty_day_is_green_and_shows_the_query_that_found_nothing(export: DagsterExport):
    """A12"""
    run = export.run(DAY)
    assert run.success
    assert run.failed_checks() == []
    metadata = run.metadata(SALES_RAW, DAY)
    assert (metadata["sales"], metadata["dagster/partition_row_count"]) == (0, 0)
    assert metadata["evidence"] == {"source": "memory", "rows": "0"}
    assert run.metadata(SMARTGO_SALES, DAY)["sales"] == 0


def test_images_are_fetched_again_only_by_run_configuration(export: DagsterExport):
    sell(export, [DAY])
    export.run(DAY)
    export.run(DAY)
    assert len(export.world.images.calls) == 3
    export.run(DAY, refetch_images=True)
    assert len(export.world.images.calls) == 6


def test_each_day_of_a_run_has_its_own_numbers(export: DagsterExport):
    for day, count in zip(DAYS[:2], (5, 2), strict=True):
        export.world.sell(day, count)
    first = export.world.source.rows[0]
    export.world.images.by_url[str(first["image_url"])][:] = [ImageRefused(ImageStatus.GONE, "status 404")]
    export.world.source.rows += [
        dict(export.world.source.rows[1]),
        sale_row(first["sold_at"], 99, sold_price=Decimal("-1.00")),  # type: ignore[arg-type]
    ]
    run = export.run(*DAYS[:2])
    one = {stage: run.metadata(stage, DAYS[0]) for stage in STAGES}
    two = {stage: run.metadata(stage, DAYS[1]) for stage in STAGES}
    raw = {"sales": 5, "rows_read": 7, "duplicates": 1, "quarantined": 1, "price_sum": 99.5}
    images = {"images_ok": 4, "images_failed": 1, "failed_by_reason": {"GONE": 1}, "downloaded": 4, "distinct_urls": 5}
    vectors = {"embedded": 4, "without_vector": 1, "failed_by_reason": {"NO_IMAGE": 1}, "paid_calls": 4}
    for stage, expected in (
        (SALES_RAW, raw),
        (PRODUCT_IMAGES, images),
        (TITAN_EMBEDDINGS, vectors | {"model": "local-fake", "dimension": 1024}),
        (SMARTGO_SALES, {"sales": 5, "price_sum": 99.5, "null_vectors": 1, "data_files": 1, "snapshot_id": "1"}),
    ):
        assert {name: one[stage][name] for name in expected} == expected
        assert one[stage]["dagster/partition_row_count"] == 5
        assert two[stage]["dagster/partition_row_count"] == 2
        assert one[stage]["seconds"] >= 0


def test_thumbnails_of_the_days_pictures_are_in_the_metadata(export: DagsterExport):
    sell(export, [DAY])
    shown = export.run(DAY).metadata(PRODUCT_IMAGES, DAY)["images"]
    pictures = [part.split(")")[0] for part in shown.split("data:image/jpeg;base64,")[1:]]
    assert len(pictures) == 3
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture, validate=True))) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= THUMBNAIL_PIXELS


def test_a_picture_that_cannot_be_shown_fails_nothing(export: DagsterExport):
    sell(export, [DAY])
    export.run(DAY)
    for key in list(export.world.store.keys("images/")):
        export.world.store.objects[key] = b"not a picture any more"
    run = export.run(DAY)
    assert run.success
    assert "images" not in run.metadata(PRODUCT_IMAGES, DAY)


def test_the_run_is_in_the_ledger_and_in_the_commit_under_dagsters_own_id(export: DagsterExport):
    sell(export, [DAY])
    run = export.run(DAY)
    record = export.world.ledger.newest(DAY)
    assert record is not None
    assert (record.run_id, record.state, record.sales) == (run.result.run_id, RunState.SUCCEEDED, 3)
    assert export.world.table.commits[0][1]["salesintel.run-id"] == run.result.run_id


def test_a_resource_that_cannot_be_made_fails_the_run_before_any_day(export: DagsterExport):
    sell(export, [DAY])

    def broken(_context: dg.InitResourceContext) -> None:
        raise SettingInvalid("/tf/dev/smartgo/database/config: no such parameter")

    definitions = dg.Definitions.merge(
        dg.Definitions(
            assets=export.definitions.assets,
            jobs=export.definitions.jobs,
            resources={**(export.definitions.resources or {}), "smartgo_db": dg.ResourceDefinition(broken)},
        )
    )
    result = definitions.resolve_job_def(JOB).execute_in_process(
        instance=export.instance, raise_on_error=False, partition_key=DAY.isoformat(), run_config=QUIET
    )
    assert not result.success
    assert export.world.store.calls == []


@pytest.mark.parametrize(
    "zone,ticks_on,wanted",
    [
        ("UTC", datetime(2026, 11, 4, 3, tzinfo=UTC), date(2026, 11, 3)),
        ("Europe/Vilnius", datetime(2026, 11, 4, 3, tzinfo=UTC), date(2026, 11, 3)),
        ("Pacific/Auckland", datetime(2026, 11, 4, 3, tzinfo=UTC), date(2026, 11, 3)),
        # In New York it is still the evening of the 3rd: the newest day that has ended is the 2nd.
        ("America/New_York", datetime(2026, 11, 4, 3, tzinfo=UTC), date(2026, 11, 2)),
        ("UTC", datetime(2024, 1, 2, 3, tzinfo=UTC), date(2024, 1, 1)),
        ("UTC", datetime(2024, 3, 1, 3, tzinfo=UTC), date(2024, 2, 29)),
    ],
)
def test_the_nightly_schedule_asks_for_the_newest_day_that_has_ended(zone: str, ticks_on: datetime, wanted: date):
    settings = Settings.from_environment({"SALESINTEL_PARTITION_ZONE": zone})
    with dagster_export(settings) as export:
        repository = export.definitions.get_repository_def()
        context = dg.build_schedule_context(
            instance=export.instance, scheduled_execution_time=ticks_on, repository_def=repository
        )
        asked = repository.get_schedule_def("smartgo_nightly").evaluate_tick(context).run_requests
    assert asked is not None
    [request] = asked
    assert (request.run_key, request.partition_key) == (f"smartgo-{wanted}", wanted.isoformat())


def test_a_tick_that_is_evaluated_twice_has_one_run_key(export: DagsterExport):
    """J13"""
    repository = export.definitions.get_repository_def()
    keys = set()
    for minute in (0, 1, 59):
        at = datetime(2026, 11, 4, 3, minute, tzinfo=UTC)
        context = dg.build_schedule_context(
            instance=export.instance, scheduled_execution_time=at, repository_def=repository
        )
        [request] = repository.get_schedule_def("smartgo_nightly").evaluate_tick(context).run_requests or []
        keys.add(request.run_key)
    assert keys == {"smartgo-2026-11-03"}


def test_an_asset_that_returns_a_value_is_refused_at_its_first_run(export: DagsterExport):
    """I10"""

    @dg.asset
    def careless() -> dict[str, int]:
        return {"pickled": 1}

    @dg.asset
    def silent() -> None:
        return None

    resources = {"io_manager": (export.definitions.resources or {})["io_manager"]}
    with pytest.raises(dg.DagsterInvariantViolationError, match="stage Parquet and return no value"):
        dg.materialize([careless], instance=export.instance, resources=resources, run_config=QUIET)
    assert dg.materialize([silent], instance=export.instance, resources=resources, run_config=QUIET).success


def test_nothing_is_ever_loaded_from_an_io_manager():
    """I10"""
    with pytest.raises(dg.DagsterInvariantViolationError, match="read the staged Parquet"):
        NoValuesIOManager().load_input(dg.build_input_context(name="rows"))
