"""Rules over columns of vectors, on Arrow's own buffers: no vector becomes a Python list here.

A vector column is list<float32>; a null in it is a sale without a vector, which other rules count. Everything is
pure: the checks read columns, say what is wrong with which sale, and know nothing of where the columns came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.domain.columns import VECTOR
from salesintel_dagster.domain.embedding import EmbeddingSpec

Matrix = npt.NDArray[np.float32]
"""(n, dimension) float32, row-major."""

NOT_FINITE = "a value is NaN, infinite or null"
ALL_ZERO = "all values are zero"


class BadVector(NamedTuple):
    """A sale whose vector breaks a rule, and the rule."""

    sale_id: str
    reason: str


def vector_column(vectors: Matrix, present: npt.NDArray[np.bool_]) -> pa.ListArray:
    """Return the column in which row i has a vector where `present[i]`: `vectors` are theirs, in order, not copied."""
    rows, dimension = len(present), vectors.shape[1]
    offsets = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(present * dimension, out=offsets[1:])
    values = pa.FloatArray.from_buffers(pa.float32(), vectors.size, [None, pa.py_buffer(vectors)])
    validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.ListArray.from_buffers(VECTOR, rows, [validity, pa.py_buffer(offsets)], children=[values])


def bad_vectors(
    vectors: pa.Array | pa.ChunkedArray, sale_ids: pa.Array | pa.ChunkedArray, dimension: int
) -> list[BadVector]:
    """Return every vector that is not `dimension` finite float32 values with one that is not zero, in row order.

    Raises TypeError where the column is no list of float32: that is another table, not a bad row.
    """
    bad: list[BadVector] = []
    start = 0
    for chunk in vectors.chunks if isinstance(vectors, pa.ChunkedArray) else [vectors]:
        bad += [BadVector(sale_ids[start + row].as_py(), reason) for row, reason in _bad_rows(chunk, dimension)]
        start += len(chunk)
    return bad


def _bad_rows(vectors: pa.Array, dimension: int) -> list[tuple[int, str]]:
    offsets, present = _layout(vectors)
    lengths = np.diff(offsets)
    wrong = np.flatnonzero(present & (lengths != dimension))
    found = [(int(row), f"expected {dimension} values, found {lengths[row]}") for row in wrong]
    rows = np.flatnonzero(present & (lengths == dimension))
    for first, matrix in _matrices(vectors, offsets[:-1][rows], dimension):
        found += [(int(rows[first + row]), reason) for row, reason in _bad_in(matrix)]
    return sorted(found)


def _layout(vectors: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return where each list begins and ends in the flat values, and which rows are not null."""
    if not isinstance(vectors, pa.ListArray | pa.LargeListArray) or vectors.type.value_type != pa.float32():
        raise TypeError(f"expected a column of list<float32>, found {vectors.type}")
    offsets = vectors.offsets.to_numpy().astype(np.int64)
    return offsets, vectors.is_valid().to_numpy(zero_copy_only=False)


def _matrices(vectors: pa.Array, starts: npt.NDArray[np.int64], dimension: int) -> Iterator[tuple[int, Matrix]]:
    """Yield the lists that begin at `starts` as zero-copy matrices, one per run of neighbours in the buffer."""
    if not len(starts):
        return
    # Element nulls cost a copy, in which they are NaN; without any (always, in a file of ours) this is a view.
    flat = vectors.values.to_numpy(zero_copy_only=False)
    breaks = np.flatnonzero(np.diff(starts) != dimension) + 1
    for first, last in zip([0, *breaks], [*breaks, len(starts)], strict=True):
        begin = starts[first]
        yield int(first), flat[begin : begin + (last - first) * dimension].reshape(-1, dimension)


def _bad_in(matrix: Matrix) -> list[tuple[int, str]]:
    # One pass over the memory and no temporary: a NaN or an infinity makes its row's sum of squares one too, and
    # only a row of zeros (or of values below 1e-23) sums to zero. The few suspects are then looked at closely.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    suspects = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
    found = []
    for row in suspects:
        if not np.isfinite(matrix[row]).all():
            found.append((int(row), NOT_FINITE))
        elif not matrix[row].any():
            found.append((int(row), ALL_ZERO))
    return found


def specs_of_vectors(batch: pa.RecordBatch | pa.Table) -> set[EmbeddingSpec]:
    """Return every (model, dimension, preprocessing) by which a vector of the batch was made.

    More than one over a day means that its vectors cannot be compared with each other.
    """
    made = batch.filter(pc.is_valid(batch.column("embedding_vector"))).select(
        ["embedding_model", "embedding_dimension", "preprocess_version"]
    )
    table = made if isinstance(made, pa.Table) else pa.Table.from_batches([made])
    rows = table.group_by(table.column_names).aggregate([]).to_pylist()
    return {
        EmbeddingSpec(str(row["embedding_model"]), int(row["embedding_dimension"] or 0), str(row["preprocess_version"]))
        for row in rows
    }


def vector_digests(vectors: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, bytes]]:
    """Yield (row, digest) of every vector that is not null: equal digests mean equal vectors, bit for bit.

    16 bytes each, so that a day of 100,000 vectors is compared without being held. Measured: 5 us a vector.
    """
    start = 0
    for chunk in vectors.chunks if isinstance(vectors, pa.ChunkedArray) else [vectors]:
        offsets, present = _layout(chunk)
        flat = chunk.values.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(present):
            yield start + int(row), hashlib.blake2b(flat[offsets[row] : offsets[row + 1]], digest_size=16).digest()
        start += len(chunk)
