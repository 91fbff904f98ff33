"""What a stage frees is not kept: Arrow's buffers, and glibc's, in a process that has loaded us as Dagster does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAX_KEPT_MEGABYTES = 20

CHILD = """
import salesintel_dagster.definitions
import pyarrow as pa, threading

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

def work():
    kept = [pa.array(range(1000))]
    for size in (1, 2, 4, 8) * 4:
        kept.append(pa.allocate_buffer(size * 2**20))
        memoryview(kept[-1]).cast("B")[::4096] = bytes(size * 256)

before = resident()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(pa.default_memory_pool().backend_name, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_big_buffers_that_were_freed_are_given_back():
    told = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True, timeout=100)
    backend, kept = told.stdout.split()
    assert backend == "system"
    assert int(kept) < MAX_KEPT_MEGABYTES
