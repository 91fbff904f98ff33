"""The rules over columns of vectors, against a naive reference that uses Python lists."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salesintel_dagster.domain.columns import EMBEDDING_SCHEMA, VECTOR
from salesintel_dagster.domain.embedding import EmbeddingSpec
from salesintel_dagster.domain.vectors import (
    ALL_ZERO,
    NOT_FINITE,
    bad_vectors,
    specs_of_vectors,
    vector_column,
    vector_digests,
)

DIMENSION = 3
Row = list[float | None] | None
NULLABLE = pa.list_(pa.float32())

values = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 3.4e38, 1e-30, 1e-45]),
    st.floats(width=32),
)
lists = st.one_of(
    st.none(), st.just([0.0] * DIMENSION), st.lists(values, max_size=5), st.lists(values, min_size=3, max_size=3)
)


def naive(rows: list[Row]) -> list[tuple[str, str]]:
    found = []
    for number, row in enumerate(rows):
        if row is None:
            continue
        if len(row) != DIMENSION:
            found.append((str(number), f"expected {DIMENSION} values, found {len(row)}"))
        elif any(value is None or not math.isfinite(value) for value in row):
            found.append((str(number), NOT_FINITE))
        elif all(value == 0 for value in row):
            found.append((str(number), ALL_ZERO))
    return found


def names(count: int) -> pa.Array:
    return pa.array([str(number) for number in range(count)], pa.string())


@settings(max_examples=3 * settings.default.max_examples)
@given(st.lists(lists, max_size=12), st.integers(0, 5), st.integers(0, 5), st.sampled_from([pa.list_, pa.large_list]))
def test_the_buffers_and_the_lists_agree_on_every_bad_vector_whatever_the_slice(
    rows: list[Row], before: int, after: int, kind: Callable[[pa.DataType], pa.DataType]
):
    whole = pa.array([None, [1.0]] * before + rows + [[0.0]] * after, kind(pa.float32()))
    column = whole.slice(2 * before, len(rows))
    assert bad_vectors(column, names(len(rows)), DIMENSION) == naive(rows)


@given(st.lists(st.lists(lists, max_size=4), max_size=4))
def test_a_column_in_chunks_is_judged_like_one_piece(chunks: list[list[Row]]):
    column = pa.chunked_array([pa.array(chunk, NULLABLE) for chunk in chunks], NULLABLE)
    assert bad_vectors(column, names(len(column)), DIMENSION) == naive([row for chunk in chunks for row in chunk])


def test_a_null_row_that_hides_values_in_the_buffer_shifts_no_other_row():
    offsets = pa.array([0, 3, 6, 9], pa.int32())
    flat = pa.array([1, 2, 3, math.nan, 0, 0, 0, 0, 0], pa.float32())
    hidden = pa.ListArray.from_arrays(offsets, flat, mask=pa.array([False, True, False]))
    assert bad_vectors(hidden, names(3), DIMENSION) == [("2", ALL_ZERO)]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.int32()), pa.string(), pa.float32()])
def test_a_column_that_is_no_list_of_float32_is_refused(kind: pa.DataType):
    with pytest.raises(TypeError, match="list<float32>"):
        bad_vectors(pa.array([], kind), names(0), DIMENSION)


def test_a_hundred_thousand_floats_are_judged_without_a_copy_of_them():
    """2,000 rows of 1,024 floats take about 1 ms; 100,000 took 30 ms (14 GB/s) when measured."""
    matrix = np.ones((2_000, 1024), dtype=np.float32)
    matrix[77, 5], matrix[1999] = np.nan, 0
    column = vector_column(matrix, np.ones(2_000, dtype=bool))
    before = pa.total_allocated_bytes()
    started = time.perf_counter()
    assert bad_vectors(column, names(2_000), 1024) == [("77", NOT_FINITE), ("1999", ALL_ZERO)]
    assert time.perf_counter() - started < 0.5
    assert pa.total_allocated_bytes() - before < 1_000_000


@given(st.lists(st.booleans(), max_size=40))
def test_a_packed_column_holds_each_vector_in_its_row_and_null_elsewhere(present: list[bool]):
    matrix = np.arange(sum(present) * DIMENSION, dtype=np.float32).reshape(-1, DIMENSION)
    column = vector_column(matrix, np.array(present, dtype=bool))
    column.validate(full=True)
    rows = iter(matrix.tolist())
    assert column.type == VECTOR
    assert column.to_pylist() == [next(rows) if here else None for here in present]


def test_packing_copies_no_vector():
    matrix = np.ones((4, DIMENSION), dtype=np.float32)
    column = vector_column(matrix, np.array([True] * 4))
    assert column.values.buffers()[1].address == matrix.ctypes.data


@given(st.lists(st.one_of(st.none(), st.lists(st.sampled_from([0.0, 1.0, 2.0]), max_size=2)), max_size=12))
def test_digests_are_equal_exactly_where_vectors_are(rows: list[Row]):
    column = pa.array([[9.0], *rows], NULLABLE).slice(1)
    digests = dict(vector_digests(column))
    assert list(digests) == [number for number, row in enumerate(rows) if row is not None]
    by_digest = [
        [rows[n] for n, _ in group]
        for _, group in groupby(sorted(digests.items(), key=lambda d: d[1]), key=lambda d: d[1])
    ]
    assert all(row == group[0] for group in by_digest for row in group)
    assert len(by_digest) == len({tuple(row) for row in rows if row is not None})


def test_specs_are_those_of_rows_with_a_vector():
    """C13: a day whose vectors come from two models can be told from one that lacks some."""
    rows = [("m1", [1.0]), ("m1", [2.0]), ("m2", None), ("m3", [3.0])]
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "tenant_id": "t",
                "sale_id": str(number),
                "embedding_status": "ok",
                "embedding_model": model,
                "embedding_dimension": 1,
                "preprocess_version": "v1",
                "embedding_vector": vector,
            }
            for number, (model, vector) in enumerate(rows)
        ],
        schema=EMBEDDING_SCHEMA,
    )
    assert specs_of_vectors(batch) == {EmbeddingSpec("m1", 1, "v1"), EmbeddingSpec("m3", 1, "v1")}
    assert specs_of_vectors(pa.Table.from_batches([batch])) == specs_of_vectors(batch)
