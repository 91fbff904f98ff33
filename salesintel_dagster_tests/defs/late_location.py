"""A code location for the sensor daemon: the definitions with the late-day sensors, every port a fake."""

from __future__ import annotations

import dagster as dg

from salesintel_dagster.definitions import build
from salesintel_dagster.defs import late_days
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.export_parts import FakeExport

SETTINGS = Settings(backfill_days_per_run=5)
WORLD = FakeExport()

export = build(
    SETTINGS,
    smartgo_db=WORLD.source,
    image_host=WORLD.images,
    bedrock=WORLD.embedder,
    analytics=WORLD.store,
    lakehouse=WORLD.table,
    dynamodb=WORLD.ledger,
)
wired = any(sensor.name == "smartgo_missing_days" for sensor in export.sensors or ())
defs = export if wired else dg.Definitions.merge(export, late_days.build(SETTINGS))
