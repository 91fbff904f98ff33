"""Stage 4: join the day's staged data sets, add season and quarter, and replace the day in the sales table.

The join is by position: row n of each staged data set speaks of the same sale. That is checked, batch by batch,
before a row goes on. A sale without an image or a vector is written all the same, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.domain.calendar import Hemisphere, quarter, season, season_year
from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.embedding import EmbeddingSpec
from salesintel_dagster.domain.errors import StagesMisaligned
from salesintel_dagster.domain.fingerprint import (
    DAY_PROPERTY,
    FINGERPRINT_PROPERTY,
    SOURCE_PROPERTY,
)
from salesintel_dagster.domain.ports import Commit, SalesTable
from salesintel_dagster.flows.export.run import PRODUCT_IMAGES, SALES_RAW, TITAN_EMBEDDINGS, DayRun
from salesintel_dagster.flows.export.staging import HeldDays

KEY = ("tenant_id", "sale_id")
NO_PRICE = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class SalesWritten:
    """What the table holds of the day now, counted on the way in; `null_vectors` are sales without a vector."""

    commit: Commit
    rows: int
    price_sum: Decimal
    null_vectors: int
    seconds: float


def write_sales(
    run: DayRun, staged: HeldDays, table: SalesTable, *, hemisphere: Hemisphere, allow_empty: bool
) -> SalesWritten:
    """Replace the run's day in `table` by its staged sales, in one commit.

    One copy of each staged file serves all tries: the fingerprint in the commit is of the rows in it, whatever
    another run of the day stages meanwhile.

    Raises ObjectMissing where a stage never ran, StagesMisaligned where one ran on other sales, and what
    `SalesTable.replace_day` raises.
    """
    started = run.clock.monotonic()
    staged.let_go()
    fingerprint = staged.fingerprint(SALES_RAW, run.scope.day)
    join = _Join(run, staged, hemisphere, run.clock.now())
    properties = {
        "salesintel.run-id": run.run_id,
        DAY_PROPERTY: run.scope.day.isoformat(),
        SOURCE_PROPERTY: run.scope.source_system,
    }
    if fingerprint is not None:
        properties[FINGERPRINT_PROPERTY] = fingerprint.text
    commit = table.replace_day(run.scope, join.rows, properties, allow_empty=allow_empty)
    seconds = run.clock.monotonic() - started
    written = SalesWritten(commit, join.count, join.price_sum, join.null_vectors, seconds)
    run.say("Iceberg write successful", rows=written.rows, snapshot=commit.snapshot_id, seconds=f"{seconds:.2f}")
    return written


@dataclass(slots=True)
class _Join:
    """The day's rows as SALES_SCHEMA; `rows` may be called again, and the sums are those of its last pass."""

    run: DayRun
    staged: HeldDays
    hemisphere: Hemisphere
    ingested_at: datetime
    count: int = 0
    price_sum: Decimal = NO_PRICE
    null_vectors: int = 0
    _specs: dict[tuple[str, int, str], EmbeddingSpec] = field(default_factory=dict)

    def rows(self) -> Iterator[pa.RecordBatch]:
        self.count, self.price_sum, self.null_vectors = 0, NO_PRICE, 0
        day = self.run.scope.day
        with (
            self.staged.batches(SALES_RAW, day) as sales,
            self.staged.batches(PRODUCT_IMAGES, day) as images,
            self.staged.batches(TITAN_EMBEDDINGS, day) as embeddings,
        ):
            for sale, image, embedding in zip_longest(sales, images, embeddings):
                self._check_same_keys(sale, image, PRODUCT_IMAGES)
                self._check_same_keys(sale, embedding, TITAN_EMBEDDINGS)
                self._check_same_images(image, embedding)
                joined = self._joined(sale, image, embedding)
                self.count += joined.num_rows
                self.price_sum += pc.sum(joined["sold_price"], min_count=0).as_py()
                self.null_vectors += joined["embedding_vector"].null_count
                yield joined

    def _check_same_keys(self, sale: pa.RecordBatch | None, other: pa.RecordBatch | None, stage: str) -> None:
        if sale is None and other is None:
            return
        if sale is None or other is None or not sale.select(KEY).equals(other.select(KEY)):
            self._misaligned(stage, f"it does not hold the sales of {SALES_RAW}, row for row")

    def _check_same_images(self, image: pa.RecordBatch, embedding: pa.RecordBatch) -> None:
        """A vector must be of the sale's present image: images may have been fetched again since."""
        has_vector = pc.is_valid(embedding["embedding_vector"])
        same = pc.fill_null(pc.equal(image["image_sha256"], embedding["image_sha256"]), False)  # noqa: FBT003 - Arrow's
        if pc.any(pc.and_not(has_vector, same), min_count=0).as_py():
            self._misaligned(TITAN_EMBEDDINGS, f"it holds vectors of other images than {PRODUCT_IMAGES}")

    def _misaligned(self, stage: str, why: str) -> NoReturn:
        day = self.run.scope.day
        raise StagesMisaligned(f"{stage} of {day} is out of step: {why}; materialise {stage} for {day} again")

    def _joined(self, sale: pa.RecordBatch, image: pa.RecordBatch, embedding: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: sale[name] for name in sale.schema.names if name in SALES_SCHEMA.names}
        columns |= {name: image[name] for name in ("image_s3_key", "image_sha256")}
        columns |= self._embedding_columns(sale, embedding)
        columns |= {name: pa.repeat(value, sale.num_rows) for name, value in self._constants().items()}
        arrays = [columns[field.name].cast(field.type) for field in SALES_SCHEMA]
        return pa.RecordBatch.from_arrays(arrays, schema=SALES_SCHEMA)

    def _constants(self) -> dict[str, pa.Scalar]:
        day = self.run.scope.day
        values = {
            "season": season(day, self.hemisphere).value,
            "season_year": season_year(day),
            "quarter": quarter(day),
            "year": day.year,
            "month": day.month,
            "source_system": self.run.scope.source_system,
            "ingestion_timestamp": self.ingested_at,
            "run_id": self.run.run_id,
        }
        return {name: pa.scalar(value, SALES_SCHEMA.field(name).type) for name, value in values.items()}

    def _embedding_columns(self, sale: pa.RecordBatch, embedding: pa.RecordBatch) -> dict[str, pa.Array]:
        """Return the embedding's columns; what describes a vector is null where there is none."""
        has_vector = pc.is_valid(embedding["embedding_vector"])
        columns = {name: embedding[name] for name in ("embedding_vector", "embedding_status", "embedding_error")}
        for name in ("embedding_model", "embedding_dimension", "preprocess_version"):
            columns[name] = pc.if_else(has_vector, embedding[name], pa.scalar(None, embedding[name].type))
        columns["embedding_id"] = pa.array(self._ids(sale, embedding, has_vector), pa.string())
        return columns

    def _ids(self, sale: pa.RecordBatch, embedding: pa.RecordBatch, has_vector: pa.Array) -> list[str | None]:
        names = ("image_sha256", "embedding_model", "embedding_dimension", "preprocess_version")
        details = zip(*(embedding[name].to_pylist() for name in names), strict=True)
        whole = zip(has_vector.to_pylist(), sale["product_id"].to_pylist(), details, strict=True)
        return [
            self._spec(*space).embedding_id(product, sha256) if has else None
            for has, product, (sha256, *space) in whole
        ]

    def _spec(self, model: str, dimension: int, preprocess_version: str) -> EmbeddingSpec:
        space = (model, dimension, preprocess_version)
        if space not in self._specs:
            self._specs[space] = EmbeddingSpec(*space)
        return self._specs[space]
