"""The composition root that Dagster loads: settings in, definitions out. No network while it loads."""

import gc
import os

import dagster as dg

from salesintel_dagster.defs import (
    alerts,
    carousel_sync,
    enrichment,
    late_days,
    maintenance,
    resources,
    sales_history_checks,
    smartgo_export,
    ttl_backfill,
)
from salesintel_dagster.settings import Settings


def build(settings: Settings, **overrides: object) -> dg.Definitions:
    """Return everything that Dagster serves; `overrides` replace resources by name (tests, other wirings)."""
    return dg.Definitions.merge(
        smartgo_export.build(settings),
        late_days.build(settings),
        carousel_sync.build(settings),
        sales_history_checks.build(settings),
        enrichment.build(settings),
        alerts.build(settings),
        maintenance.build(settings),
        ttl_backfill.build(settings),
        dg.Definitions(
            resources={**resources.build(settings), **overrides},
            # One process a run: the multiprocess executor costs 5 CPU-s a run against 2.3 (measured, 2 cores).
            executor=dg.in_process_executor,
        ),
    )


defs = build(Settings.from_environment(os.environ))

# What is loaded by now (some 400,000 objects, most of them Dagster's) lives as long as the process. Without this the
# collector looks at all of it again and again: a run of an empty day took 4.6 CPU-s and takes 3.6 (docs/benchmarks.md).
gc.freeze()
