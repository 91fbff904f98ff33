"""How this process's buffers are allocated: so that what a stage has freed is there for the next one, or gone."""

from __future__ import annotations

import ctypes

import pyarrow as pa

M_MMAP_THRESHOLD = -3
"""`mallopt`'s name for it, in malloc.h of glibc."""
MMAP_THRESHOLD_BYTES = 256 * 1024
"""A vector batch is 8 MB, a picture up to 10 MB, what Python itself takes from malloc far below."""


def give_big_buffers_back() -> None:
    """Let buffers of MMAP_THRESHOLD_BYTES and more go back to the system when they are freed, Arrow's among them.

    glibc raises that threshold to the largest buffer freed so far, up to 32 MB (man 3 mallopt), and keeps what is
    below it in the arena of whichever thread asked; Arrow's own allocator keeps freed buffers in the same way. With
    48 threads that was a fifth of a day's peak (docs/benchmarks.md). Other C libraries are left as they are.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
