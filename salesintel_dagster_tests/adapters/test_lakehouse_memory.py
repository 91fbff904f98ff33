from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_MEGABYTES = 550
"""Measured 426 MB for the first write of 100,000 rows and 318 MB for 10,000; pyiceberg's import alone is 130 MB."""

CHILD = """
import json, sys
from pathlib import Path
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import RUN, local_catalog

catalog = local_catalog(Path(sys.argv[1]))
table = IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK)
scope = day_scope()
batches = lambda: (sale_rows(scope, 2_000, first=n, dimension=1024) for n in range(0, 100_000, 2_000))
commit = table.replace_day(scope, batches, RUN, allow_empty=False)
read = sum(batch.num_rows for batch in table.read_day(scope, ("sale_id", "embedding_vector")))
# Not ru_maxrss: it begins at the size of the process that forked us.
[line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
peak = int(line.split()[1]) // 1024
print(json.dumps([commit.rows_written, read, table.day_facts(scope).rows, peak]))
"""


@pytest.mark.slow
def test_a_hundred_thousand_vectors_are_written_and_read_in_bounded_memory(tmp_path: Path) -> None:
    """A15, at table level"""
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=170
    )
    written, read, held, peak_megabytes = json.loads(told.stdout)
    assert (written, read, held) == (100_000, 100_000, 100_000)
    assert peak_megabytes < MAX_MEGABYTES
