"""The promises of the export: kept by what the stages stored, broken by what a hand plants there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from salesintel_dagster.domain.checks import MAX_OFFENDERS_NAMED, Severity, Verdict
from salesintel_dagster.domain.columns import PRICE, VECTOR
from salesintel_dagster.domain.errors import ObjectMissing, TableUnavailable
from salesintel_dagster.domain.ports import DayFacts, DayScope
from salesintel_dagster.flows.export.checks import ExportChecks
from salesintel_dagster.flows.export.promises import promises
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, SMARTGO_SALES, TITAN_EMBEDDINGS
from salesintel_dagster_tests.fakes.export_parts import FakeExport, PoisonedSource, scope_of
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import sale_row

DAY = date(2026, 11, 3)
DIMENSION = 1024
SALES = 25
VECTORS = f"vectors_are_{DIMENSION}_dim"
ALL = {promise.name: promise for promise in promises(DIMENSION)}


@dataclass
class Stored:
    """A day that was exported, and ways to spoil what lies in the store and the table."""

    world: FakeExport

    def verdict(self, name: str, day: date = DAY) -> Verdict:
        checks = ExportChecks(
            self.world.staged, Quarantine(self.world.store, "smartgo"), self.world.table, DIMENSION, 0.05, 0.5
        )
        return checks.of_stage(ALL[name].stage)[ALL[name]](scope_of(day))

    def column(self, stage: str, name: str) -> list[object]:
        return self._staged(stage)[name].to_pylist()

    def plant(self, stage: str, name: str, values: dict[int, object]) -> None:
        """Put values into single rows of a column of a stage's file."""
        column = self.column(stage, name)
        for row, value in values.items():
            column[row] = value
        self.plant_column(stage, name, pa.array(column, self._staged(stage).schema.field(name).type))

    def plant_column(self, stage: str, name: str, column: pa.Array) -> None:
        table = self._staged(stage)
        at = table.schema.get_field_index(name)
        spoilt = table.set_column(at, pa.field(name, column.type), column)
        self.world.staged.write(stage, DAY, spoilt.schema, spoilt.to_batches())

    def plant_vectors(self, vectors: dict[int, object]) -> None:
        column = self.column(TITAN_EMBEDDINGS, "embedding_vector")
        for row, vector in vectors.items():
            column[row] = vector
        self.plant_column(TITAN_EMBEDDINGS, "embedding_vector", pa.array(column, VECTOR))

    def vectors_in_table(self, vectors: dict[int, object]) -> None:
        rows = self.world.table.rows
        column = rows["embedding_vector"].to_pylist()
        for row, vector in vectors.items():
            column[row] = vector
        at = rows.schema.get_field_index("embedding_vector")
        self.in_table(rows.set_column(at, rows.schema.field(at), pa.array(column, VECTOR)))

    def in_table(self, rows: pa.Table) -> None:
        self.world.table.rows = rows

    def _staged(self, stage: str) -> pa.Table:
        with self.world.staged.batches(stage, DAY) as batches:
            return pa.Table.from_batches(list(batches))


@pytest.fixture(scope="module")
def exported() -> FakeExport:
    world = FakeExport()
    world.sell(DAY, SALES)
    world.run(DAY)
    return world


@pytest.fixture
def stored(exported: FakeExport) -> Stored:
    """Return a copy of the exported day: an export for each test cost 25 ms."""
    source = PoisonedSource([dict(row) for row in exported.source.rows])
    world = FakeExport(source, exported.images, exported.embedder)
    world.store.objects |= exported.store.objects
    world.table.rows, world.table.commits = exported.table.rows, list(exported.table.commits)
    return Stored(world)


@pytest.mark.parametrize("name", ALL)
def test_every_check_passes_on_what_the_export_stored(stored: Stored, name: str):
    found = stored.verdict(name)
    assert found.passed, found.sentence()
    assert found.offenders == ()


@pytest.mark.parametrize("name", ALL)
def test_every_check_passes_on_a_day_without_sales(name: str):
    """A12"""
    world = FakeExport()
    world.run(DAY)
    found = Stored(world).verdict(name)
    assert found.passed, found.sentence()


READ_NO_STAGE = {"no_row_in_quarantine", "table_ids_are_unique", f"table_{VECTORS}", "table_has_one_model"}


@pytest.mark.parametrize("name", sorted(ALL.keys() - READ_NO_STAGE))
def test_a_check_of_a_day_that_never_ran_names_the_asset_to_materialise(name: str):
    with pytest.raises(ObjectMissing, match=rf"of {DAY} was never staged; materialise \w+ for {DAY} first"):
        Stored(FakeExport()).verdict(name)


def test_only_the_vectors_block():
    assert [promise.name for promise in promises(DIMENSION) if promise.blocking] == [VECTORS]
    assert [promise.name for promise in promises(256) if promise.blocking] == ["vectors_are_256_dim"]


def test_a_repeated_sale_id_is_named(stored: Stored):
    ids = stored.column(SALES_RAW, "sale_id")
    stored.plant(SALES_RAW, "sale_id", {1: ids[0], 5: ids[0]})
    found = stored.verdict("sale_ids_are_unique")
    assert (found.passed, found.severity, found.offenders) == (False, Severity.ERROR, (ids[0], ids[0]))
    assert found.facts == {"offenders": 2}


def test_one_sale_id_of_two_tenants_is_two_sales(stored: Stored):
    ids = stored.column(SALES_RAW, "sale_id")
    stored.plant(SALES_RAW, "sale_id", {1: ids[0]})
    stored.plant(SALES_RAW, "tenant_id", {1: "other-labs"})
    assert stored.verdict("sale_ids_are_unique").passed


def test_hundreds_of_offenders_are_counted_and_the_first_are_named(stored: Stored):
    ids = stored.column(SALES_RAW, "sale_id")
    stored.plant(SALES_RAW, "sale_id", dict.fromkeys(range(SALES), ids[0]))
    found = stored.verdict("sale_ids_are_unique")
    assert len(found.offenders) == MAX_OFFENDERS_NAMED
    assert found.facts == {"offenders": SALES - 1}


def test_a_sale_id_with_two_contents_fails_the_check_by_its_id():
    """A17"""
    world = FakeExport()
    first, *_ = world.sell(DAY, 2)
    world.source.rows.append(dict(world.source.rows[0]) | {"sold_price": Decimal("99.00")})
    world.run(DAY)
    found = Stored(world).verdict("sale_ids_are_unique")
    assert (found.passed, found.severity, found.offenders) == (False, Severity.ERROR, (first,))
    assert found.found == "0 repeated, 1 with two contents"


def test_the_same_row_twice_is_no_conflict():
    """A17"""
    world = FakeExport()
    world.sell(DAY, 2)
    world.source.rows.append(dict(world.source.rows[0]))
    world.run(DAY)
    assert Stored(world).verdict("sale_ids_are_unique").passed


@pytest.mark.parametrize(
    "column,value",
    [
        ("tenant_id", ""),
        ("product_id", ""),
        ("category", None),
        ("category", ""),
        ("currency", ""),
        ("sold_price", None),
        ("sold_at", None),
    ],
)
def test_a_sale_with_an_empty_field_is_named(stored: Stored, column: str, value: object):
    stored.plant(SALES_RAW, column, {3: value, 7: value})
    found = stored.verdict("required_fields_are_there")
    ids = stored.column(SALES_RAW, "sale_id")
    assert (found.passed, found.severity, found.offenders) == (False, Severity.ERROR, (ids[3], ids[7]))


def test_a_row_in_quarantine_warns_with_its_reason():
    """A16"""
    world = FakeExport()
    world.sell(DAY, 2)
    world.source.rows.append(sale_row(world.source.rows[0]["sold_at"], 9, sold_price=Decimal("-1.00")))
    world.run(DAY)
    found = Stored(world).verdict("no_row_in_quarantine")
    assert (found.passed, found.severity, found.found) == (False, Severity.WARN, "1 row")
    assert "sold_price=-1.00" in found.offenders[0]


@pytest.mark.parametrize("missing,passed,severity", [(1, True, "WARN"), (2, False, "WARN"), (13, False, "ERROR")])
@pytest.mark.parametrize(
    "name,stage,column",
    [
        ("images_are_there", PRODUCT_IMAGES, "image_s3_key"),
        ("null_vector_share", TITAN_EMBEDDINGS, "embedding_vector"),
    ],
)
def test_missing_images_and_vectors_are_judged_by_their_share(  # noqa: PLR0913, PLR0917 - a table's columns
    stored: Stored,
    name: str,
    stage: str,
    column: str,
    missing: int,
    passed: bool,  # noqa: FBT001 - same
    severity: str,
):
    """C12"""
    stored.plant(stage, column, dict.fromkeys(range(missing)))
    found = stored.verdict(name)
    assert (found.passed, found.severity) == (passed, severity)
    assert found.facts == {"share": missing / SALES, "part": missing, "whole": SALES}


BAD_VECTORS: dict[str, list[float]] = {
    "expected 1024 values, found 1023": [1.0] * 1023,
    "expected 1024 values, found 1025": [1.0] * 1025,
    "expected 1024 values, found 0": [],
    "a value is NaN, infinite or null": [float("nan"), *[1.0] * 1023],
    "all values are zero": [0.0] * 1024,
}


@pytest.mark.parametrize("reason,vector", BAD_VECTORS.items(), ids=BAD_VECTORS)
def test_a_bad_vector_is_an_error_that_names_its_sale_and_what_is_wrong(
    stored: Stored, reason: str, vector: list[float]
):
    """C1"""
    stored.plant_vectors({4: vector})
    found = stored.verdict(VECTORS)
    sale = stored.column(SALES_RAW, "sale_id")[4]
    assert (found.passed, found.severity, found.offenders) == (
        False,
        Severity.ERROR,
        (f"carousel-labs/{sale}: {reason}",),
    )


def test_an_infinite_value_is_no_vector(stored: Stored):
    """C1, C2"""
    stored.plant_vectors({0: [float("inf"), *[1.0] * 1023], 24: [float("-inf"), *[1.0] * 1023]})
    assert stored.verdict(VECTORS).facts == {"offenders": 2}


def test_a_day_of_bad_vectors_names_the_first_sales(stored: Stored):
    """C1"""
    stored.plant_vectors(dict.fromkeys(range(SALES), [0.0] * 1024))
    found = stored.verdict(VECTORS)
    assert len(found.offenders) == MAX_OFFENDERS_NAMED
    assert found.found == "25 bad"


def test_a_missing_vector_is_not_a_bad_vector(stored: Stored):
    stored.plant_vectors(dict.fromkeys(range(5)))
    found = stored.verdict(VECTORS)
    assert found.passed
    assert found.expected.startswith("20 vectors of 1024 finite float32")


@pytest.mark.parametrize(
    "column,value",
    [("embedding_model", "amazon.titan-embed-image-v2"), ("embedding_dimension", 256), ("preprocess_version", "v0")],
)
def test_a_vector_of_another_model_dimension_or_preprocessing_fails_the_day(stored: Stored, column: str, value: object):
    """C13"""
    stored.plant(TITAN_EMBEDDINGS, column, {2: value})
    found = stored.verdict("one_model_only")
    assert (found.passed, found.severity, len(found.offenders)) == (False, Severity.ERROR, 2)
    assert str(value) in found.found


def test_another_model_without_a_vector_is_no_offence(stored: Stored):
    stored.plant(TITAN_EMBEDDINGS, "embedding_model", {2: "amazon.titan-embed-image-v2"})
    stored.plant_vectors({2: None})
    assert stored.verdict("one_model_only").passed


def test_a_bad_vector_in_the_table_is_told_with_its_tenant_and_sale(stored: Stored):
    """C11"""
    stored.vectors_in_table({4: [0.0] * DIMENSION, 7: [1.0] * 1023})
    found = stored.verdict(f"table_{VECTORS}")
    ids = stored.world.table.rows["sale_id"].to_pylist()
    assert (found.passed, found.severity) == (False, Severity.ERROR)
    assert found.offenders == (
        f"carousel-labs/{ids[4]}: all values are zero",
        f"carousel-labs/{ids[7]}: expected 1024 values, found 1023",
    )
    assert stored.verdict(VECTORS).passed, "the staged file is as it was"


def test_a_vector_of_another_model_in_the_table_is_told(stored: Stored):
    """C13: two models are not mixed in what analysts read, whoever wrote there."""
    rows = stored.world.table.rows
    models = ["amazon.titan-embed-image-v1", *rows["embedding_model"].to_pylist()[1:]]
    at = rows.schema.get_field_index("embedding_model")
    stored.in_table(rows.set_column(at, rows.schema.field(at), pa.array(models)))
    found = stored.verdict("table_has_one_model")
    assert (found.passed, found.severity, len(found.offenders)) == (False, Severity.ERROR, 2)
    assert "amazon.titan-embed-image-v1/1024" in found.found
    assert stored.verdict("one_model_only").passed


@pytest.mark.parametrize(
    "status,severity",
    [
        ("BREAKER_OPEN", Severity.ERROR),
        ("MODEL_UNUSABLE", Severity.ERROR),
        ("THROTTLED", Severity.WARN),
        ("BUDGET_EXHAUSTED", Severity.WARN),
    ],
)
def test_what_ended_the_calls_is_told_however_few_sales_it_cost(stored: Stored, status: str, severity: Severity):
    """C7, C8, C9"""
    stored.plant(TITAN_EMBEDDINGS, "embedding_status", {3: status, 4: "REFUSED_BY_MODEL"})
    stored.plant(TITAN_EMBEDDINGS, "embedding_error", {3: "why", 4: "too dark"})
    found = stored.verdict("embedding_was_not_stopped")
    assert (found.passed, found.severity, found.found, found.offenders) == (
        False,
        severity,
        f"{status} 1",
        (f"{status}: why",),
    )


def test_the_gravest_of_two_reasons_is_the_severity(stored: Stored):
    stored.plant(TITAN_EMBEDDINGS, "embedding_status", {0: "BUDGET_EXHAUSTED", 1: "BREAKER_OPEN", 2: "BREAKER_OPEN"})
    found = stored.verdict("embedding_was_not_stopped")
    assert (found.severity, found.found) == (Severity.ERROR, "BREAKER_OPEN 2, BUDGET_EXHAUSTED 1")


def test_one_image_s_own_failure_stopped_nothing(stored: Stored):
    stored.plant(TITAN_EMBEDDINGS, "embedding_status", {0: "MODEL_ERROR", 1: "NO_IMAGE", 2: "STORE_FAILED"})
    assert stored.verdict("embedding_was_not_stopped").passed


def test_two_different_images_with_one_vector_are_named(stored: Stored):
    vectors = stored.column(TITAN_EMBEDDINGS, "embedding_vector")
    stored.plant_vectors({6: vectors[0], 9: vectors[0]})
    found = stored.verdict("different_images_have_different_vectors")
    images = stored.column(TITAN_EMBEDDINGS, "image_sha256")
    assert (found.passed, found.severity) == (False, Severity.WARN)
    assert set(found.offenders) == {images[0], images[6], images[9]}


def test_one_image_of_many_sales_may_have_one_vector(stored: Stored):
    images, vectors = (stored.column(TITAN_EMBEDDINGS, name) for name in ("image_sha256", "embedding_vector"))
    stored.plant(TITAN_EMBEDDINGS, "image_sha256", {6: images[0]})
    stored.plant_vectors({6: vectors[0]})
    assert stored.verdict("different_images_have_different_vectors").passed


def test_vectors_without_an_image_are_judged_and_do_not_stop_the_check(stored: Stored):
    vectors = stored.column(TITAN_EMBEDDINGS, "embedding_vector")
    stored.plant(TITAN_EMBEDDINGS, "image_sha256", {6: None})
    stored.plant_vectors({6: vectors[0]})
    assert "no image" in stored.verdict("different_images_have_different_vectors").offenders


def _without_one(rows: pa.Table) -> pa.Table:
    return rows.slice(1)


def _one_twice(rows: pa.Table) -> pa.Table:
    return pa.concat_tables([rows, rows.slice(0, 1)])


def _one_cent_less(rows: pa.Table) -> pa.Table:
    prices = pa.array([Decimal("19.89"), *rows["sold_price"].to_pylist()[1:]], PRICE)
    return rows.set_column(rows.schema.get_field_index("sold_price"), "sold_price", prices)


@pytest.mark.parametrize(
    "spoil,found",
    [
        (_without_one, "24 sales, sum 477.60"),
        (_one_twice, "26 sales, sum 517.40"),
        (_one_cent_less, "25 sales, sum 497.49"),
        (lambda rows: rows.slice(0, 0), "0 sales, sum 0.00"),
    ],
)
def test_a_table_that_differs_from_the_source_is_told_with_both_sides(
    stored: Stored, spoil: Callable[[pa.Table], pa.Table], found: str
):
    stored.in_table(spoil(stored.world.table.rows))
    verdict = stored.verdict("table_matches_source")
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert (verdict.expected, verdict.found) == ("25 sales, sum 497.50", found)
    assert verdict.facts["source_rows"] == SALES


def test_a_sale_that_is_twice_in_the_table_is_named(stored: Stored):
    stored.in_table(_one_twice(stored.world.table.rows))
    found = stored.verdict("table_ids_are_unique")
    assert (found.passed, found.severity) == (False, Severity.ERROR)
    assert found.offenders == (stored.column(SALES_RAW, "sale_id")[0],)


def test_a_sale_that_the_source_moved_to_another_day_is_named_and_cured_by_materialising_its_old_day(stored: Stored):
    """A5: identity is unique over all days; the row of the old day is stale until that day is read again."""
    moved = stored.world.source.rows[3]
    moved["sold_at"] -= timedelta(days=9)
    old = DAY - timedelta(days=9)
    stored.world.run(old)
    found = stored.verdict("table_ids_are_unique", old)
    assert (found.passed, found.severity) == (False, Severity.ERROR)
    assert found.offenders == (f"{moved['sale_id']} also on {DAY}",)
    assert "materialise that day again" in found.sentence()
    stored.world.run(DAY)
    assert stored.verdict("table_ids_are_unique", old).passed
    assert stored.verdict("table_ids_are_unique").passed


def test_both_checks_of_the_table_cost_one_reading_of_it():
    class Counted(InMemorySalesTable):
        readings = 0

        def day_facts(self, scope: DayScope) -> DayFacts:
            self.readings += 1
            return super().day_facts(scope)

    world = FakeExport(table=Counted())
    world.sell(DAY, 3)
    world.run(DAY, checks=ALL)
    assert world.table.readings == 1


def test_a_table_out_of_reach_is_an_outage_and_no_verdict(stored: Stored):
    class Down(InMemorySalesTable):
        def day_facts(self, scope: object) -> object:
            raise TableUnavailable(f"the catalog is down, asked for {scope}")

    stored.world.table = Down()
    with pytest.raises(TableUnavailable):
        stored.verdict("table_matches_source")


def test_vectors_in_the_table_are_those_that_were_judged(stored: Stored):
    """The blocking check reads the staged file, and the commit copies it: bit for bit the same vectors."""
    staged = stored.column(TITAN_EMBEDDINGS, "embedding_vector")
    written = stored.world.table.rows["embedding_vector"]
    assert np.array_equal(np.array(written.to_pylist(), np.float32), np.array(staged, np.float32))
    assert pc.all(pc.equal(pc.list_value_length(written), DIMENSION)).as_py()


def test_every_asset_has_a_promise():
    assert {promise.stage for promise in ALL.values()} == {SALES_RAW, PRODUCT_IMAGES, TITAN_EMBEDDINGS, SMARTGO_SALES}
