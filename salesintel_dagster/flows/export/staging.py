"""How one stage hands a day to the next: one Parquet file per (stage, day) in the object store.

Row group n is batch n, so that the stages' files of a day stay aligned row by row and memory stays at one batch.
Nothing is pickled: a reader of these files executes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import VECTOR
from salesintel_dagster.domain.errors import ObjectMissing
from salesintel_dagster.domain.fingerprint import FINGERPRINT_PROPERTY, SourceFingerprint
from salesintel_dagster.domain.ports import ObjectStore

PARQUET_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class StagedDay:
    """What was staged: where, how many rows, how many bytes."""

    key: str
    rows: int
    bytes: int


class StagedDays:
    """The staged data sets of one source, by stage name and day."""

    def __init__(self, store: ObjectStore, source_system: str) -> None:
        self._store = store
        self._prefix = f"staging/{source_system}"

    def key(self, stage: str, day: date) -> str:
        """Return the object key of a stage's day."""
        return f"{self._prefix}/{stage}/{day.isoformat()}.parquet"

    def write(self, stage: str, day: date, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> StagedDay:
        """Stream `batches` into the stage's file of `day`, replacing it at the end in one put."""
        with tempfile.TemporaryDirectory(prefix="salesintel-") as folder:
            path = Path(folder) / "staged.parquet"
            rows = 0
            vectors = [field.name for field in schema if field.type == VECTOR]
            with pq.ParquetWriter(
                path,
                schema,
                compression="zstd",
                # Floats have no dictionary: 2,000 vectors are written in 23 ms instead of 77, read in 12 instead of 75.
                use_dictionary=[name for name in schema.names if name not in vectors],
                column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in vectors},
            ) as writer:
                for batch in batches:
                    if batch.num_rows:
                        writer.write_batch(batch, row_group_size=batch.num_rows)
                        rows += batch.num_rows
            staged = StagedDay(self.key(stage, day), rows, path.stat().st_size)
            self._store.put(staged.key, path, PARQUET_TYPE)
        return staged

    @contextmanager
    def open(self, stage: str, day: date) -> Iterator[pq.ParquetFile | None]:
        """Open the stage's file of `day` from a local copy; None where the stage never ran for it."""
        with tempfile.TemporaryDirectory(prefix="salesintel-") as folder:
            path = Path(folder) / "staged.parquet"
            try:
                self._store.download(self.key(stage, day), path)
            except ObjectMissing:
                yield None
                return
            with pq.ParquetFile(path) as parquet:
                yield parquet

    def fingerprint(self, stage: str, day: date) -> SourceFingerprint | None:
        """Return the source's fingerprint in the stage's file of `day`; None where there is no file or none in it."""
        with self.open(stage, day) as parquet:
            return None if parquet is None else fingerprint_in(parquet.schema_arrow)

    @contextmanager
    def batches(self, stage: str, day: date) -> Iterator[Iterator[pa.RecordBatch]]:
        """Stream the stage's rows of `day`, batch by batch as written. Raises ObjectMissing where there are none."""
        with self.open(stage, day) as parquet:
            if parquet is None:
                raise ObjectMissing(f"{stage} of {day} was never staged; materialise {stage} for {day} first")
            yield _row_groups(parquet)


def fingerprint_in(schema: pa.Schema) -> SourceFingerprint | None:
    """Return the fingerprint of the reading that wrote a staged file; None where its schema carries none."""
    kept = (schema.metadata or {}).get(FINGERPRINT_PROPERTY.encode(), b"")
    return SourceFingerprint.parse(kept.decode("ascii", "replace"))


def _row_groups(parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    for index in range(parquet.num_row_groups):
        table = parquet.read_row_group(index).combine_chunks()
        yield from table.to_batches()
