"""A vector that a hand writes into the real Iceberg table: the check that finds it, and the alert that tells of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo

from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.defs import alerts
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.flows.export.run import SMARTGO_SALES
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests.defs.worlds import DagsterExport, dagster_export
from salesintel_dagster_tests.fakes.alerts import InMemoryAlerts
from salesintel_dagster_tests.lakes import SALES, local_catalog

DAY = date(2026, 10, 1)
CHECK = "table_vectors_are_1024_dim"


@dataclass
class Written:
    """A day in the table, exported by Dagster; `sale_ids` are its sales'."""

    export: DagsterExport
    catalog: Catalog
    sale_ids: list[str]

    def write_by_hand(self, sale_id: str, **changed: object) -> None:
        """Replace one row by itself with other values, past everything of ours."""
        table = self.catalog.load_table(SALES)
        [row] = table.scan(EqualTo("sale_id", sale_id)).to_arrow().to_pylist()
        table.overwrite(pa.Table.from_pylist([row | changed], table.schema().as_arrow()), EqualTo("sale_id", sale_id))

    def alerts_of(self, ticks: int) -> list[str]:
        """Let the alerts sensor tick, its cursor handed on, and return the texts that tell of checks."""
        sink, cursor = InMemoryAlerts(), None
        clock = Clock(lambda: datetime.now(UTC) + timedelta(seconds=30), time.monotonic, time.sleep, lambda: 0.0)
        [sensor] = alerts.build(Settings(), sinks=lambda: {"memory": sink}, clock=clock).sensors or ()
        assert isinstance(sensor, dg.SensorDefinition)
        for _ in range(ticks):
            with dg.build_sensor_context(instance=self.export.instance, cursor=cursor) as context:
                sensor(context)
                cursor = context.cursor
        return [alert.text for alert in sink.sent if alert.id.startswith("check")]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    catalog = local_catalog(tmp_path)
    with dagster_export() as export:
        export.world.table = IcebergSalesTable(lambda: catalog, SYSTEM_CLOCK)  # type: ignore[assignment]
        sales = export.world.sell(DAY, 5)
        assert export.run(DAY).success
        yield Written(export, catalog, sales)
    catalog.close()


def test_c11_a_bad_vector_written_by_hand_fails_the_check_and_is_one_alert_with_tenant_and_sale(written: Written):
    assert written.export.run(DAY, checks=[(SMARTGO_SALES, CHECK)]).failed_checks() == []
    written.write_by_hand(written.sale_ids[2], embedding_vector=[1.0] * 1023)
    run = written.export.run(DAY, checks=[(SMARTGO_SALES, CHECK)])
    assert run.failed_checks() == [(DAY.isoformat(), CHECK)]
    [text] = written.alerts_of(ticks=3)
    lines = text.splitlines()
    assert lines[0] == f"ERROR {SMARTGO_SALES}.{CHECK} {DAY}"
    assert f"first offenders: carousel-labs/{written.sale_ids[2]}: expected 1024 values, found 1023" in lines
    assert [line for line in lines if line.startswith("what to do: ") and line.endswith(f", {CHECK}")]


def test_c13_a_vector_of_another_model_written_by_hand_fails_the_check_of_the_table(written: Written):
    written.write_by_hand(written.sale_ids[0], embedding_model="amazon.titan-embed-image-v1")
    run = written.export.run(DAY, checks=[(SMARTGO_SALES, "table_has_one_model"), (SMARTGO_SALES, CHECK)])
    assert run.failed_checks() == [(DAY.isoformat(), "table_has_one_model")]
    [text] = written.alerts_of(ticks=2)
    assert "amazon.titan-embed-image-v1/1024/v1-max2048" in text


def test_materialising_the_day_again_mends_what_the_hand_did(written: Written):
    """As docs/alerts.md says."""
    written.write_by_hand(written.sale_ids[1], embedding_vector=[0.0] * 1024)
    assert written.export.run(DAY).failed_checks() == []
    assert len(written.export.world.embedder.calls) == 5, "and nothing is paid for again"
