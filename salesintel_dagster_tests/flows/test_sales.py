from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest

from salesintel_dagster.domain.calendar import Hemisphere
from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA, IMAGE_SCHEMA, RAW_SCHEMA, SALES_SCHEMA
from salesintel_dagster.domain.errors import EmptyReplacement, ObjectMissing, StagesMisaligned
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, TITAN_EMBEDDINGS
from salesintel_dagster.flows.export.sales import SalesWritten, write_sales
from salesintel_dagster.flows.export.staging import HeldDays, StagedDays
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.export_run import RunForTests, export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable, vectors_column

DAY = date(2026, 11, 3)
DIMENSION = 4
Staging = tuple[str, pa.Schema, list[pa.RecordBatch]]


def column(value: object, field: pa.Field, count: int) -> pa.Array:
    if isinstance(value, pa.Array):
        return value
    return pa.array(value if isinstance(value, list) else [value] * count, field.type)


def batch(schema: pa.Schema, columns: dict[str, object], count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([column(columns[field.name], field, count) for field in schema], schema=schema)


@dataclass
class Day:
    """A staged day under construction: `batches` rows per batch, image n belongs to sale n."""

    batches: tuple[int, ...] = (3, 2)
    day: date = DAY
    without_vector: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.store = InMemoryObjectStore()
        self.staged = StagedDays(self.store, "smartgo")
        self.table = InMemorySalesTable()
        self.tell: RunForTests = export_run(self.day, clock=held_clock())

    def stage(self, *stages: str, **changed: object) -> Day:
        makers = {SALES_RAW: self._raw, PRODUCT_IMAGES: self._images, TITAN_EMBEDDINGS: self._embeddings}
        schemas = {SALES_RAW: RAW_SCHEMA, PRODUCT_IMAGES: IMAGE_SCHEMA, TITAN_EMBEDDINGS: EMBEDDING_SCHEMA}
        for stage in stages or makers:
            self.staged.write(stage, self.day, schemas[stage], self._made(makers[stage], schemas[stage], changed))
        return self

    def write(self, *, allow_empty: bool = False, hemisphere: Hemisphere = Hemisphere.NORTH) -> SalesWritten:
        with TemporaryDirectory() as folder:
            held = HeldDays(self.store, "smartgo", Path(folder))
            return write_sales(self.tell.run, held, self.table, hemisphere=hemisphere, allow_empty=allow_empty)

    def rows(self) -> list[dict[str, object]]:
        return self.table.rows.to_pylist()

    def _made(
        self, make: Callable[[list[int]], dict[str, object]], schema: pa.Schema, changed: dict[str, object]
    ) -> list[pa.RecordBatch]:
        made, first = [], 0
        for count in self.batches:
            made.append(batch(schema, make(list(range(first, first + count))) | changed, count))
            first += count
        return made

    def _raw(self, ids: list[int]) -> dict[str, object]:
        return {
            "sale_id": [f"s{n}" for n in ids],
            "product_id": [f"p{n}" for n in ids],
            "tenant_id": "carousel-labs",
            "category": "shoes",
            "brand": None,
            "condition": "good",
            "condition_raw": "Good!",
            "sold_price": Decimal("12.34"),
            "currency": "EUR",
            "currency_defaulted": True,
            "sold_at": datetime(self.day.year, self.day.month, self.day.day, 9, tzinfo=UTC),
            "sold_date": self.day,
            "image_url": "http://images/x.jpg",
        }

    def _images(self, ids: list[int]) -> dict[str, object]:
        return {
            "tenant_id": "carousel-labs",
            "sale_id": [f"s{n}" for n in ids],
            "url_sha256": None,
            "image_status": ["GONE" if n in self.without_vector else "ok" for n in ids],
            "image_reason": None,
            "image_s3_key": [None if n in self.without_vector else f"images/{n}" for n in ids],
            "image_sha256": [None if n in self.without_vector else sha256_of(n) for n in ids],
            "image_bytes": 10,
            "image_width": 1,
            "image_height": 1,
            "attempts": 1,
        }

    def _embeddings(self, ids: list[int]) -> dict[str, object]:
        vectors = np.array([[n + 0.5] * DIMENSION for n in ids], dtype=np.float32)
        there = pa.array([n not in self.without_vector for n in ids])
        return {
            "tenant_id": "carousel-labs",
            "sale_id": [f"s{n}" for n in ids],
            "image_sha256": [None if n in self.without_vector else sha256_of(n) for n in ids],
            "embedding_status": ["NO_IMAGE" if n in self.without_vector else "ok" for n in ids],
            "embedding_error": ["404" if n in self.without_vector else None for n in ids],
            "embedding_model": "m1",
            "embedding_dimension": DIMENSION,
            "preprocess_version": "p1",
            "embedding_vector": pa.compute.if_else(there, vectors_column(vectors), None),
        }


def sha256_of(n: int) -> str:
    return f"{n:064x}"


def test_a_day_is_joined_and_counted() -> None:
    day = Day().stage()
    written = day.write()
    assert (written.rows, written.price_sum, written.null_vectors) == (5, Decimal("61.70"), 0)
    assert written.commit.rows_written == 5
    assert day.table.rows.schema.equals(SALES_SCHEMA)
    row = day.rows()[4]
    assert (row["sale_id"], row["image_s3_key"], row["embedding_vector"]) == ("s4", "images/4", [4.5] * 4)
    assert (row["season"], row["season_year"], row["quarter"], row["year"], row["month"]) == (
        "AUTUMN",
        2026,
        "Q4",
        2026,
        11,
    )
    assert (row["source_system"], row["run_id"]) == ("smartgo", "run-1")
    assert row["ingestion_timestamp"] == day.tell.run.clock.now()
    assert (row["currency_defaulted"], row["condition_raw"]) == (True, "Good!")


def test_january_lies_in_last_years_winter_and_in_the_south_in_summer() -> None:
    january = Day(day=date(2026, 1, 31)).stage()
    january.write()
    assert {(row["season"], row["season_year"]) for row in january.rows()} == {("WINTER", 2025)}
    january.write(hemisphere=Hemisphere.SOUTH)
    assert {row["season"] for row in january.rows()} == {"SUMMER"}


def test_a_sale_without_a_vector_is_written_with_its_reason() -> None:
    day = Day(without_vector=frozenset({1, 4})).stage()
    written = day.write()
    assert (written.rows, written.null_vectors) == (5, 2)
    row = day.rows()[1]
    described = ("embedding_id", "embedding_model", "embedding_dimension", "embedding_vector", "preprocess_version")
    assert [row[name] for name in described] == [None] * 5
    assert (row["embedding_status"], row["embedding_error"], row["image_s3_key"]) == ("NO_IMAGE", "404", None)
    assert day.rows()[0]["embedding_model"] == "m1"


def test_an_embedding_id_is_of_the_image_model_and_dimension() -> None:
    day = Day().stage()
    day.write()
    identity = hashlib.sha256("\x1f".join((sha256_of(2), "m1", "4")).encode()).hexdigest()[:32]
    assert day.rows()[2]["embedding_id"] == f"smartgo-p2-{identity}"


def test_the_write_is_told_in_a_line_and_in_the_snapshot() -> None:
    day = Day().stage()
    written = day.write()
    told = f"tenant=carousel-labs partition=2026-11-03 rows=5 snapshot={written.commit.snapshot_id}"
    line = f"[SmartGoExporter] Iceberg write successful {told}"
    assert any(said.startswith(line) for said in day.tell.said)
    scope, properties = day.table.commits[0]
    assert scope == day.tell.run.scope
    assert properties == {
        "salesintel.run-id": "run-1",
        "salesintel.day": "2026-11-03",
        "salesintel.source": "smartgo",
    }


def test_a_day_without_sales_is_written_as_nothing() -> None:
    """A12"""
    day = Day(batches=()).stage()
    written = day.write()
    assert (written.rows, written.price_sum, written.commit.snapshot_id) == (0, Decimal(0), None)


def test_a_day_that_lost_its_sales_is_refused_and_cleared_only_by_leave() -> None:
    """A11"""
    day = Day().stage()
    day.write()
    day.batches = ()
    day.stage()
    with pytest.raises(EmptyReplacement):
        day.write()
    assert len(day.rows()) == 5
    assert day.write(allow_empty=True).commit.rows_replaced == 5
    assert day.rows() == []


def test_the_same_day_written_again_is_the_same_day() -> None:
    """A6"""
    day = Day().stage()
    for _ in range(5):
        day.write()
    assert [row["sale_id"] for row in day.rows()] == ["s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("stage", [SALES_RAW, PRODUCT_IMAGES, TITAN_EMBEDDINGS])
def test_a_stage_that_never_ran_is_named(stage: str) -> None:
    day = Day().stage(*({SALES_RAW, PRODUCT_IMAGES, TITAN_EMBEDDINGS} - {stage}))
    with pytest.raises(ObjectMissing, match=f"materialise {stage} for 2026-11-03 first"):
        day.write()


@pytest.mark.parametrize("stage", [PRODUCT_IMAGES, TITAN_EMBEDDINGS])
@pytest.mark.parametrize("batches", [(3, 3), (3,), (3, 1), (5,), (3, 2, 1), ()], ids=str)
def test_a_stage_of_other_sales_is_named(stage: str, batches: tuple[int, ...]) -> None:
    day = Day().stage()
    day.batches = batches
    day.stage(stage)
    with pytest.raises(StagesMisaligned, match=f"materialise {stage} for 2026-11-03 again"):
        day.write()
    assert day.rows() == []


@pytest.mark.parametrize("stage", [PRODUCT_IMAGES, TITAN_EMBEDDINGS])
@pytest.mark.parametrize("name", ["sale_id", "tenant_id"])
def test_a_stage_whose_rows_are_of_other_sales_is_named(stage: str, name: str) -> None:
    day = Day().stage().stage(stage, **{name: "other"})
    with pytest.raises(StagesMisaligned, match=f"materialise {stage} for 2026-11-03 again"):
        day.write()


def test_vectors_of_images_that_have_changed_since_are_refused() -> None:
    day = Day().stage().stage(PRODUCT_IMAGES, image_sha256="f" * 64)
    with pytest.raises(StagesMisaligned, match=f"{TITAN_EMBEDDINGS} .* vectors of other images"):
        day.write()


def test_rows_are_counted_once_when_the_table_reads_them_twice() -> None:
    class ReadsTwice(InMemorySalesTable):
        def replace_day(self, scope, rows, properties, *, allow_empty):  # noqa: ANN001, ANN202 - the port's
            next(rows())
            list(rows())
            return super().replace_day(scope, rows, properties, allow_empty=allow_empty)

    day = Day().stage()
    day.table = ReadsTwice()
    assert (day.write().rows, day.write().price_sum) == (5, Decimal("61.70"))
