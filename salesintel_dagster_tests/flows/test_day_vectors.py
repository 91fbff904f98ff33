"""The file of a day's vectors on a disk that is full."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from salesintel_dagster.domain.embedding import VectorBytes
from salesintel_dagster.flows.export.day_vectors import DayVectors

DIMENSION, VECTOR_BYTES = 384, 1_536


@contextmanager
def room_for(file_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond; a write over the border ends at it, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_half_a_vector_is_no_vector():
    """C11: the rest of it was whatever lay in memory, and nobody could tell."""
    with closing(DayVectors(DIMENSION)) as vectors, room_for(2 * VECTOR_BYTES - 500):
        vectors.keep(0, VectorBytes(b"a" * VECTOR_BYTES))
        with pytest.raises(OSError) as full:
            vectors.keep(1, VectorBytes(b"b" * VECTOR_BYTES))
    assert full.value.errno == errno.ENOSPC
