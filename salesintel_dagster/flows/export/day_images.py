"""The distinct images of a staged day: who they are, and which sale shows which. 100 bytes an image, no pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Indices = npt.NDArray[np.int32]

NO_IMAGE = -1
"""Stands where a sale has no image."""


@dataclass(frozen=True, slots=True)
class DayImages:
    """Image i is `sha256[i]`, lies at `keys[i]` and is shown by `sales[i]` sales.

    `of_row` gives the image of each row of the day, in the order of the staged file, or NO_IMAGE; `missing` counts
    the rows without one by the status that the download gave them.
    """

    sha256: pa.StringArray
    keys: pa.StringArray
    sales: npt.NDArray[np.int64]
    of_row: Indices
    missing: Counter[str]

    @property
    def count(self) -> int:
        """How many distinct images the day has."""
        return len(self.sha256)


def day_images(manifest: pq.ParquetFile) -> DayImages:
    """Read the distinct images of a staged `product_images` file, in order of first appearance."""
    rows = manifest.read(columns=["image_sha256", "image_s3_key", "image_status"])
    encoded = _whole(rows["image_sha256"]).dictionary_encode()
    of_row = encoded.indices.fill_null(NO_IMAGE).to_numpy(zero_copy_only=False).astype(np.int32)
    shown = of_row[of_row != NO_IMAGE]
    _, first_rows = np.unique(of_row, return_index=True)
    first_rows = first_rows[of_row[first_rows] != NO_IMAGE] if len(of_row) else first_rows
    without = rows["image_status"].filter(pa.array(of_row == NO_IMAGE))
    return DayImages(
        sha256=encoded.dictionary,
        keys=_whole(rows["image_s3_key"]).take(pa.array(first_rows)),
        sales=np.bincount(shown, minlength=len(encoded.dictionary)),
        of_row=of_row,
        missing=Counter({item["values"]: item["counts"] for item in without.value_counts().to_pylist()}),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
