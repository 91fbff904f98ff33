"""The distinct images of a staged day: where each has its place in the vectors, and which sale shows which.

A row costs 4 bytes and an image 12; only what nobody has heard of before is held with its digest and key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from salesintel_dagster.flows.export.day_vectors import DayVectors, Places
from salesintel_dagster.flows.export.embedding_work import ImagesToMake

NO_IMAGE = -1
"""Stands where a sale has no image."""


@dataclass(frozen=True, slots=True)
class DayImages:
    """The image at `places[i]` is shown by `sales[i]` sales; each is there once.

    `of_row` gives the place of each row's image, in the order of the staged file, or NO_IMAGE; `missing` counts the
    rows without one by the status that the download gave them. `new` are the images that had no place before.
    """

    places: Places
    sales: npt.NDArray[np.int64]
    of_row: Places
    missing: Counter[str]
    new: ImagesToMake

    @property
    def count(self) -> int:
        """How many distinct images the day has."""
        return len(self.places)


def day_images(manifest: pq.ParquetFile, vectors: DayVectors) -> DayImages:
    """Read the images of a staged `product_images` file, a row group at a time, giving each a place in `vectors`."""
    of_row, missing, new = [np.empty(0, dtype=np.int32)], Counter[str](), [ImagesToMake.none()]
    for group in range(manifest.num_row_groups):
        rows = manifest.read_row_group(group, columns=["image_sha256", "image_s3_key", "image_status"])
        [batch] = rows.combine_chunks().to_batches()
        encoded = batch["image_sha256"].dictionary_encode()
        image = encoded.indices.fill_null(NO_IMAGE).to_numpy(zero_copy_only=False)
        placed = [vectors.place(bytes.fromhex(sha256)) for sha256 in encoded.dictionary.to_pylist()]
        places = np.array([place for place, _ in placed] + [NO_IMAGE], dtype=np.int32)
        of_row.append(places[image])
        missing.update(batch["image_status"].filter(pa.array(image == NO_IMAGE)).to_pylist())
        unheard = np.flatnonzero([is_new for _, is_new in placed])
        keys = batch["image_s3_key"].take(pa.array(_first_rows(image)[unheard]))
        new.append(ImagesToMake(encoded.dictionary.take(pa.array(unheard)), keys, places[unheard]))
    whole = np.concatenate(of_row)
    shown, sales = np.unique(whole[whole != NO_IMAGE], return_counts=True)
    return DayImages(shown, sales, whole, missing, ImagesToMake.joined(new))


def _first_rows(image: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the row where each image 0, 1, ... is first shown."""
    images, first = np.unique(image, return_index=True)
    rows: npt.NDArray[np.int64] = first[images != NO_IMAGE]
    return rows
