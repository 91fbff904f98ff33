"""What a vector must be, what an embedding is called, and which vectors may be compared.

A vector travels as its little-endian float32 bytes (`4 x dimension` of them) from the model's answer to the
Parquet file: one copy, no list of Python floats on the way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NewType

import numpy as np

VectorBytes = NewType("VectorBytes", bytes)
"""Little-endian float32, `4 x dimension` bytes."""

FLOAT32_BYTES = 4
TITAN_DIMENSION = 1024


class VectorInvalid(ValueError):
    """A model's answer is not a vector of ours; the text is the reason."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """What makes two vectors comparable: the same model, dimension and preprocessing."""

    model_id: str
    dimension: int
    preprocess_version: str

    @property
    def cache_prefix(self) -> str:
        """Where the object store keeps the vectors of this spec, and none of another."""
        model = hashlib.sha256(self.model_id.encode()).hexdigest()[:12]
        return f"embeddings/{model}-{self.dimension}-{self.preprocess_version}/"

    def cache_key(self, image_sha256: str) -> str:
        """Return the object-store key under which this image's vector is kept."""
        return f"{self.cache_prefix}{image_sha256[:2]}/{image_sha256}.f32"

    def embedding_id(self, product_id: str, image_sha256: str) -> str:
        """Return the deterministic id of this image's vector under this spec."""
        identity = "\x1f".join((image_sha256, self.model_id, str(self.dimension)))
        return f"smartgo-{product_id}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def vector_from_floats(floats: object, dimension: int) -> VectorBytes:
    """Return `floats` (a JSON list of numbers) as a vector.

    Raises VectorInvalid for a wrong length, anything but numbers, NaN, infinity (before or after the cast to
    float32: 1e39 is a finite double and an infinite float) and the zero vector, which has no direction.
    """
    if not isinstance(floats, list):
        raise VectorInvalid(f"expected a list of numbers, found {type(floats).__name__}")
    if len(floats) != dimension:
        raise VectorInvalid(f"expected {dimension} numbers, found {len(floats)}")
    if not set(map(type, floats)) <= {float, int}:
        raise VectorInvalid("expected numbers only")
    try:
        doubles = np.array(floats, dtype=np.float64)
    except OverflowError:
        raise VectorInvalid("a number is too large for float32") from None
    with np.errstate(over="ignore"):
        vector = doubles.astype("<f4")
    return checked_vector(VectorBytes(vector.tobytes()), dimension)


def checked_vector(vector: VectorBytes, dimension: int) -> VectorBytes:
    """Return `vector` unchanged if it has `dimension` finite float32 values that are not all zero."""
    if len(vector) != dimension * FLOAT32_BYTES:
        raise VectorInvalid(f"expected {dimension * FLOAT32_BYTES} bytes, found {len(vector)}")
    values = np.frombuffer(vector, dtype="<f4")
    if not np.isfinite(values).all():
        raise VectorInvalid("a value is NaN or infinite as float32")
    if not values.any():
        raise VectorInvalid("all values are zero")
    return vector
