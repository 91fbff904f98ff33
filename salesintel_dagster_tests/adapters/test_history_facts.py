"""What the daily checks ask of sales_history, of the fake and of Iceberg alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from salesintel_dagster.adapters.history_facts import IcebergHistoryFacts
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.history_facts import HistoryFacts
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.event_queues import InMemoryHistoryFacts
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, TENANT
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable, sold_event, sold_rows
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import RUN, local_catalog, rows

DAYS = [date(2026, 11, 3), date(2026, 10, 1)]
SOLD = (
    sold_event("a", embedding=[0.5] * 1024),
    sold_event("b", soldAt="2026-11-04T12:00:00Z"),
    sold_event("a", tenantId=OTHER_TENANT),
)


class Lake:
    """Both tables; `sold` and `exported` fill them, `again` writes a row a second time by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake: InMemoryHistoryFacts | None = None

    def sold(self) -> None:
        if self.fake:
            self.fake.table.write_new(sold_rows(*SOLD), RUN)
            return
        with closing(local_catalog(self.folder)) as catalog:
            IcebergHistoryTable(lambda: catalog, held_clock()).write_new(sold_rows(*SOLD), RUN)

    def again(self) -> None:
        if self.fake:
            self.fake.again.append(f"{TENANT}/a")
            return
        with closing(local_catalog(self.folder)) as catalog:
            catalog.load_table((NAMESPACE, HISTORY_TABLE)).append(sold_rows(SOLD[0]))

    def exported(self, **changed: object) -> None:
        same = {"tenant_id": TENANT, "product_id": "P-a", "sold_price": Decimal("19.90"), "currency": "EUR"}
        row = {**sale_rows(day_scope("2026-11-03", TENANT), 1).to_pylist()[0], **same, "sale_id": "4711", **changed}
        if self.fake:
            self.fake.other.append(row)
            return
        batch = pa.RecordBatch.from_pylist([row], SALES_SCHEMA)
        with closing(local_catalog(self.folder)) as catalog:
            table = IcebergSalesTable(lambda: catalog, held_clock())
            table.replace_day(day_scope("2026-11-03", TENANT), rows(batch), RUN, allow_empty=False)


Asked = tuple[HistoryFacts, Lake]


@pytest.fixture(params=["fake", "iceberg"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Asked]:
    lake = Lake(tmp_path)
    if request.param == "fake":
        lake.fake = InMemoryHistoryFacts(InMemoryKeyedTable())
        yield lake.fake, lake
        return
    connect: Callable[[], object] = lambda: local_catalog(tmp_path)  # noqa: E731 - the port's parameter
    yield IcebergHistoryFacts(connect), lake  # type: ignore[arg-type]  # pyiceberg's own type


def test_a_table_that_nobody_made_has_nothing_wrong(asked: Asked):
    facts, _ = asked
    assert (facts.repeated(), facts.in_both_sources(DAYS), list(facts.vectors(DAYS))) == ([], [], [])


def test_a_sale_that_is_there_twice_is_named_and_another_tenants_is_another_sale(asked: Asked):
    facts, lake = asked
    lake.sold()
    assert facts.repeated() == []
    lake.again()
    assert facts.repeated() == [f"{TENANT}/a: 2 rows"]


def test_vectors_are_those_of_the_days(asked: Asked):
    facts, lake = asked
    lake.sold()
    found = pa.Table.from_batches(facts.vectors(DAYS)).sort_by("tenant_id").to_pylist()
    assert [(row["tenant_id"], row["sale_id"]) for row in found] == [(TENANT, "a"), (OTHER_TENANT, "a")]
    assert [len(row["embedding_vector"] or ()) for row in found] == [1024, 0]


def test_a_sale_of_both_sources_is_suspected_on_its_day_alone(asked: Asked):
    facts, lake = asked
    lake.sold()
    lake.exported()
    assert facts.in_both_sources(DAYS) == [f"{TENANT}/a: 2026-11-03 P-a, smartgo_sales has it as 4711"]
    assert facts.in_both_sources([date(2026, 10, 1)]) == []


@pytest.mark.parametrize("other", [{"sold_price": Decimal("19.91")}, {"product_id": "P-b"}, {"currency": "SEK"}])
def test_another_price_product_or_currency_is_another_sale(asked: Asked, other: dict[str, object]):
    facts, lake = asked
    lake.sold()
    lake.exported(**other)
    assert facts.in_both_sources(DAYS) == []
