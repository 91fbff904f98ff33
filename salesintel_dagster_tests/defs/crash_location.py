"""A code location for a daemon that dies: the export's schedule and sensors and the sync's, every port a fake."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from salesintel_dagster.defs import carousel_sync, late_days, smartgo_export
from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.fakes.event_queues import FakeEventQueueWatch
from salesintel_dagster_tests.fakes.events import TENANT, sold
from salesintel_dagster_tests.fakes.export_parts import FakeExport
from salesintel_dagster_tests.fakes.sync_world import FakeSync

SETTINGS = Settings(tenant=TENANT, event_gather_seconds=0, event_idle_seconds=0)
EXPORT = FakeExport()
SYNC = FakeSync(datetime.now(UTC))
SYNC.send(sold("S-1"))

export, sync = smartgo_export.build(SETTINGS), carousel_sync.build(SETTINGS, SYNC.clock)
KILLED = {"smartgo_missing_days", "carousel_sync_queue"}
"""The others would only cost each of the many daemons their ticks."""

defs = dg.Definitions.merge(
    export,
    dg.Definitions(
        assets=sync.assets,
        jobs=sync.jobs,
        sensors=[
            sensor
            for sensor in (*(late_days.build(SETTINGS).sensors or ()), *(sync.sensors or ()))
            if sensor.name in KILLED
        ],
    ),
    dg.Definitions(
        resources={
            "smartgo_db": EXPORT.source,
            "image_host": EXPORT.images,
            "bedrock": EXPORT.embedder,
            "analytics": EXPORT.store,
            "lakehouse": EXPORT.table,
            "dynamodb": EXPORT.ledger,
            "embedding_spend": EXPORT.spend,
            "cloudwatch": EXPORT.metrics,
            "event_sync": SYNC.parts,
            "sold_events": SYNC.queue,
            "sold_event_queues": FakeEventQueueWatch(SYNC.queue),
            "io_manager": NoValuesIOManager(),
        },
        executor=dg.in_process_executor,
    ),
)
