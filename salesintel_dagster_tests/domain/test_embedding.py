"""What a vector must be, and what keeps vectors of different models apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.embedding import (
    EmbeddingSpec,
    VectorBytes,
    VectorInvalid,
    checked_vector,
    vector_from_floats,
)

SPEC = EmbeddingSpec("amazon.titan-embed-image-v1", 1024, "v1-max2048")
SHA = "ab" * 32
GOOD = [0.5] * 1024


@pytest.mark.parametrize(
    "floats, reason",
    [
        (GOOD[1:], "found 1023"),
        ([*GOOD, 0.5], "found 1025"),
        ([], "found 0"),
        ([float("nan"), *GOOD[1:]], "NaN or infinite"),
        ([float("inf"), *GOOD[1:]], "NaN or infinite"),
        ([float("-inf"), *GOOD[1:]], "NaN or infinite"),
        ([0.0] * 1024, "all values are zero"),
        ([-0.0] * 1024, "all values are zero"),
        ([1e-60] * 1024, "all values are zero"),
        (["0.5"] * 1024, "numbers only"),
        ([None, *GOOD[1:]], "numbers only"),
        ([True, *GOOD[1:]], "numbers only"),
        ([[0.5], *GOOD[1:]], "numbers only"),
        (None, "found NoneType"),
        ("0.5", "found str"),
        ({"0": 0.5}, "found dict"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_reason(floats: object, reason: str):
    """C1"""
    with pytest.raises(VectorInvalid, match=reason):
        vector_from_floats(floats, 1024)


@pytest.mark.parametrize("value", [1e39, -1e39, 3.5e38, 10**400])
def test_a_number_that_is_infinite_as_float32_is_refused_after_the_cast(value: float):
    """C2"""
    with pytest.raises(VectorInvalid, match=r"infinite as float32|too large"):
        vector_from_floats([value, *GOOD[1:]], 1024)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8).filter(any))
def test_a_vector_is_its_float32_values_and_nothing_is_lost(floats: list[float]):
    assert np.frombuffer(vector_from_floats(floats, 8), dtype="<f4").tolist() == floats


def test_whole_numbers_are_numbers():
    assert vector_from_floats([1, 0, 2], 3) == np.array([1, 0, 2], dtype="<f4").tobytes()


@pytest.mark.parametrize("size", [0, 4095, 4097, 2048])
def test_stored_bytes_of_another_length_are_no_vector(size: int):
    with pytest.raises(VectorInvalid, match="expected 4096 bytes"):
        checked_vector(VectorBytes(b"\x01" * size), 1024)


@pytest.mark.parametrize(
    "other",
    [
        EmbeddingSpec("local-titan", 1024, "v1-max2048"),
        EmbeddingSpec("amazon.titan-embed-image-v1", 384, "v1-max2048"),
        EmbeddingSpec("amazon.titan-embed-image-v1", 1024, "v2"),
    ],
)
def test_another_model_dimension_or_preprocessing_never_shares_a_cache_key(other: EmbeddingSpec):
    """C13"""
    assert SPEC.cache_key(SHA) != other.cache_key(SHA)
    assert not other.cache_key(SHA).startswith(SPEC.cache_prefix)


def test_a_cache_key_is_safe_whatever_the_model_is_called():
    key = EmbeddingSpec("arn:aws:bedrock:../../x y", 1024, "v1").cache_key(SHA)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-/.")
    assert ".." not in key


def test_an_embedding_id_tells_product_image_model_and_dimension_apart_and_never_changes():
    assert SPEC.embedding_id("p1", SHA) == "smartgo-p1-c435f1687b67dbff42a2704e0ec25582"
    others = {
        SPEC.embedding_id("p2", SHA),
        SPEC.embedding_id("p1", "cd" * 32),
        EmbeddingSpec("other", 1024, "v1-max2048").embedding_id("p1", SHA),
        EmbeddingSpec(SPEC.model_id, 384, "v1-max2048").embedding_id("p1", SHA),
    }
    assert len(others | {SPEC.embedding_id("p1", SHA)}) == 5
