"""A code location for the sensor daemon: the export with the sensors that look after its days, every port a fake."""

from __future__ import annotations

import dagster as dg

from salesintel_dagster.defs import late_days, resources, smartgo_export
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.export_parts import FakeExport

SETTINGS = Settings(backfill_days_per_run=5)
WORLD = FakeExport()

# Not the whole composition: the daemon evaluates every sensor of a location, and those of the queues ask SQS.
defs = dg.Definitions.merge(
    smartgo_export.build(SETTINGS),
    late_days.build(SETTINGS),
    dg.Definitions(
        resources={
            **resources.build(SETTINGS),
            "smartgo_db": WORLD.source,
            "image_host": WORLD.images,
            "bedrock": WORLD.embedder,
            "analytics": WORLD.store,
            "lakehouse": WORLD.table,
            "dynamodb": WORLD.ledger,
        },
        executor=dg.in_process_executor,
    ),
)
