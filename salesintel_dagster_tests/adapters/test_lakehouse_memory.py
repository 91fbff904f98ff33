"""A15, at table level: a day of 100,000 vectors is written and read in bounded memory, ten times the rows or not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_MEGABYTES = 400
MAX_MORE_MEGABYTES = 110

CHILD = """
import json, sys
from pathlib import Path
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import RUN, local_catalog

catalog = local_catalog(Path(sys.argv[1]))
table = IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK)
for day, rows in (("2026-11-03", 10_000), ("2026-11-04", 100_000)):
    scope = day_scope(day)
    batches = lambda: (sale_rows(scope, 2_000, first=n, dimension=1024) for n in range(0, rows, 2_000))
    commit = table.replace_day(scope, batches, RUN, allow_empty=False)
    read = sum(batch.num_rows for batch in table.read_day(scope, ("sale_id", "embedding_vector")))
    # Not ru_maxrss: it begins at the size of the process that forked us.
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps([commit.rows_written, read, table.day_facts(scope).rows, int(line.split()[1]) // 1024]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_hundred_thousand_vectors_are_written_and_read_in_bounded_memory(tmp_path: Path) -> None:
    """A15, at table level"""
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=170
    )
    (*small, small_peak), (*large, large_peak) = map(json.loads, told.stdout.splitlines())
    assert (small, large) == ([10_000] * 3, [100_000] * 3)
    assert large_peak < MAX_MEGABYTES
    assert large_peak - small_peak < MAX_MORE_MEGABYTES
