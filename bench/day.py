"""One run of the export's job in this process, as a Dagster run worker does it: the thing that is measured."""

from __future__ import annotations

import os
import sys

import dagster as dg

from salesintel_dagster.definitions import defs
from salesintel_dagster.defs.smartgo_export import JOB


def main(first: str, last: str) -> int:
    """Materialise the days; print the run's numbers."""
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            run_config={"loggers": {"console": {"config": {"log_level": os.environ.get("BENCH_LOG", "CRITICAL")}}}},
        )
    paid = sum(
        event.materialization.metadata["paid_calls"].value
        for event in result.get_asset_materialization_events()
        if "paid_calls" in event.materialization.metadata
    )
    print(f"paid={paid} success={result.success}")
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
