"""How this process's buffers are allocated: so that what a stage has freed is there for the next one, or gone."""

from __future__ import annotations

import ctypes
import os

MMAP_THRESHOLD_BYTES = 256 * 1024
"""A batch of vectors is 8 MB; what Python takes from malloc for its own objects lies far below."""
ARENAS = 2

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""`mallopt`'s names for them, in malloc.h of glibc."""


def give_big_buffers_back() -> None:
    """Let freed buffers of MMAP_THRESHOLD_BYTES and more go back to the system.

    To be called before pyarrow is imported, which asks once.

    Arrow's own allocator keeps freed buffers for the thread that had them; so does glibc, whose threshold rises to the
    largest buffer freed so far, up to 32 MB, in one of 8 arenas a core (man 3 mallopt). Together that was a fifth of a
    day's peak, and grew with the day (docs/benchmarks.md). Other C libraries are left as they are.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)
