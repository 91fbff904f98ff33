"""Vectors that the day's previous run already staged: a re-run costs one download and no call."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA
from salesintel_dagster.domain.embedding import EmbeddingSpec
from salesintel_dagster.domain.vectors import bad_vectors
from salesintel_dagster.flows.export.day_vectors import DayVectors
from salesintel_dagster.flows.export.embedding_work import ImagesToMake
from salesintel_dagster.flows.export.run import TITAN_EMBEDDINGS, DayRun
from salesintel_dagster.flows.export.staging import DAMAGE, StagedDays, is_damage

WHO = ["image_sha256", "embedding_model", "embedding_dimension", "preprocess_version"]

NOT_WANTED = -1


def reuse_vectors(
    run: DayRun, staged: StagedDays, spec: EmbeddingSpec, images: ImagesToMake, vectors: DayVectors
) -> int:
    """Settle the images whose vector the day's previous file holds, made by the same spec; return how many.

    One row group of vectors is in memory at a time. A vector that breaks the rules is left to be made again, and
    so is everything in a file that cannot be read: it is about to be replaced.
    """
    try:
        with staged.open(TITAN_EMBEDDINGS, run.window.day) as previous:
            if previous is None or not previous.schema_arrow.equals(EMBEDDING_SCHEMA):
                return 0
            return _reuse(previous, _wanted(previous, spec, images), images, vectors, spec)
    except DAMAGE as error:
        if not is_damage(error):
            raise
        run.say("Previous embeddings unreadable", reason=type(error).__name__)
        return 0


def _wanted(previous: pq.ParquetFile, spec: EmbeddingSpec, images: ImagesToMake) -> npt.NDArray[np.int32]:
    """Return, for each row of the previous file, the image that it can settle or NOT_WANTED; each image once."""
    rows = previous.read(columns=WHO)
    same = pc.and_(
        pc.and_(
            pc.equal(rows["embedding_model"], spec.model_id), pc.equal(rows["embedding_dimension"], spec.dimension)
        ),
        pc.equal(rows["preprocess_version"], spec.preprocess_version),
    )
    image = pc.index_in(rows["image_sha256"], value_set=images.sha256, skip_nulls=True)
    image = pc.if_else(same, image, None).fill_null(NOT_WANTED).to_numpy()
    _, first_rows = np.unique(image, return_index=True)
    wanted = np.full(len(image), NOT_WANTED, dtype=np.int32)
    wanted[first_rows] = image[first_rows]
    return wanted


def _reuse(
    previous: pq.ParquetFile,
    wanted: npt.NDArray[np.int32],
    images: ImagesToMake,
    vectors: DayVectors,
    spec: EmbeddingSpec,
) -> int:
    reused = first_row = 0
    for group in range(previous.num_row_groups):
        last_row = first_row + previous.metadata.row_group(group).num_rows
        here = wanted[first_row:last_row]
        first_row = last_row
        rows = np.flatnonzero(here != NOT_WANTED)
        if not len(rows):
            continue
        found = previous.read_row_group(group, columns=["embedding_vector"])["embedding_vector"].combine_chunks()
        reused += _settle(found.take(pa.array(rows)), here[rows], images, vectors, spec)
    return reused


def _settle(
    found: pa.ListArray,
    which: npt.NDArray[np.int32],
    images: ImagesToMake,
    vectors: DayVectors,
    spec: EmbeddingSpec,
) -> int:
    hashes = images.sha256.take(pa.array(which))
    bad = {sha256 for sha256, _ in bad_vectors(found, hashes, spec.dimension)}
    flat = memoryview(found.values.to_numpy(zero_copy_only=False)).cast("B")
    offsets = found.offsets.to_numpy()
    settled = 0
    for row, image in enumerate(which):
        if not found[row].is_valid or images.sha256[int(image)].as_py() in bad:
            continue
        vectors.keep(int(images.places[image]), flat[int(offsets[row]) * 4 : int(offsets[row + 1]) * 4])
        settled += 1
    return settled
