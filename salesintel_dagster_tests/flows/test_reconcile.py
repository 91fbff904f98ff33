from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date

import pytest
from pyiceberg.expressions import EqualTo

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.sales.repository import DynamoSalesRepository
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE
from salesintel_dagster.domain.keyed_table import KeyedTable
from salesintel_dagster.domain.reconciliation import DayComparison, judged
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster.domain.sales_repository import SalesRepository
from salesintel_dagster.domain.shards import ShardCounts
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.reconcile import Reconciliation, Repaired
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, TENANT
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable, sold_event, sold_rows
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.lakes import held_clock, local_catalog
from salesintel_dagster_tests.sales_table import make_table

DAY = date(2026, 11, 3)
CONTEXT = CallerContext(TENANT)
VECTOR = [0.5] * 1024


@dataclass
class Stores:
    """Both stores and a hand that deletes a row of the table, as an operator may."""

    ledger: SalesRepository
    table: KeyedTable
    delete_row: Callable[[str], object]

    def __post_init__(self) -> None:
        self.waits: list[float] = []
        clock = replace(held_clock(), sleep=self._sleep)
        self.reconciliation = Reconciliation(self.ledger, self.table, clock)
        self.meanwhile: Callable[[], object] = lambda: None

    def both(self, *events: SaleEvent) -> None:
        for event in events:
            self.ledger.put(CallerContext(event.identity.tenant_id), event.record)
        self.table.write_new(sold_rows(*events), {})

    def compare(self) -> DayComparison:
        (found,) = self.reconciliation.compare([TENANT], [DAY])
        return found

    def assert_same_after_repair(self, expected: Repaired) -> None:
        assert self.reconciliation.repair(self.compare(), "run-9") == expected
        assert self.compare().differences == 0
        assert self.reconciliation.repair(self.compare(), "run-9") == Repaired()

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.meanwhile()


def fake_stores() -> Stores:
    table = InMemoryKeyedTable()
    return Stores(InMemorySalesRepository(held_clock()), table, lambda sale: table.rows.pop(SaleIdentity(TENANT, sale)))


@pytest.fixture(params=["fake", "real"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    if request.param == "fake":
        yield fake_stores()
        return
    aws: AwsClients = request.getfixturevalue("aws")
    client = aws.client("dynamodb")
    ledger = DynamoSalesRepository(client, make_table(client), ShardCounts(), held_clock())
    with closing(local_catalog(request.getfixturevalue("tmp_path"))) as catalog:
        yield Stores(
            ledger,
            IcebergHistoryTable(lambda: catalog, held_clock()),
            lambda sale: catalog.load_table((NAMESPACE, HISTORY_TABLE)).delete(EqualTo("sale_id", sale)),
        )


def test_stores_that_agree_are_told_so_without_waiting(stores: Stores) -> None:
    stores.both(sold_event("a"), sold_event("b"), sold_event("c", tenantId=OTHER_TENANT))
    assert stores.compare() == DayComparison(TENANT, DAY, 2, 2)
    assert stores.waits == []
    assert judged([stores.compare()]).passed


def test_a_row_deleted_from_the_table_is_named_and_restored(stores: Stores) -> None:
    """F28"""
    stores.both(sold_event("a"), sold_event("b", listedPrice=None, brand=None), sold_event("c"))
    before = stores.table.rows_of(TENANT, DAY, ["b"]).to_pylist()[0]
    stores.delete_row("b")
    found = stores.compare()
    assert (found.only_in_ledger, found.only_in_table, found.other_payload) == (("b",), (), ())
    verdict = judged([found])
    assert not verdict.passed
    assert verdict.offenders == (f"{TENANT} {DAY} b: missing in sales_history",)
    stores.assert_same_after_repair(Repaired(to_table=1))
    after = stores.table.rows_of(TENANT, DAY, ["b"]).to_pylist()[0]
    lost = {"run_id", "ingestion_timestamp", "condition_raw"}
    assert {name for name in before if before[name] != after[name]} <= lost


def test_a_sale_deleted_from_the_ledger_is_named_and_restored(stores: Stores) -> None:
    """F28"""
    stores.both(sold_event("a"), sold_event("b", embedding=VECTOR))
    before = stores.ledger.by_sale_id(CONTEXT, "b")
    stores.ledger.delete(CONTEXT, "b")
    found = stores.compare()
    assert found.only_in_table == ("b",)
    assert judged([found]).offenders == (f"{TENANT} {DAY} b: missing in the sales table",)
    stores.assert_same_after_repair(Repaired(to_ledger=1))
    assert stores.ledger.by_sale_id(CONTEXT, "b") == before


@pytest.mark.parametrize("newer", ["ledger", "table"])
def test_of_two_payloads_the_higher_version_stands(stores: Stores, newer: str) -> None:
    """F28"""
    first, second = sold_event("a"), sold_event("a", salePrice=1, eventVersion=2)
    stores.ledger.put(CONTEXT, (second if newer == "ledger" else first).record)
    stores.table.write_new(sold_rows(first if newer == "ledger" else second), {})
    assert stores.compare().other_payload == ("a",)
    stores.assert_same_after_repair(Repaired(to_table=1) if newer == "ledger" else Repaired(to_ledger=1))
    assert stores.table.of_day(TENANT, DAY) == {"a": second.record.payload_hash}


def test_two_payloads_of_one_version_are_left_for_a_person(stores: Stores) -> None:
    stores.ledger.put(CONTEXT, sold_event("a").record)
    stores.table.write_new(sold_rows(sold_event("a", salePrice=1)), {})
    assert stores.reconciliation.repair(stores.compare(), "run-9") == Repaired(left=("a",))
    assert judged([stores.compare()]).offenders == (f"{TENANT} {DAY} a: another payload",)


def test_what_is_under_way_between_the_stores_is_no_difference() -> None:
    stores = fake_stores()
    stores.ledger.put(CONTEXT, sold_event("a").record)
    stores.ledger.put(CONTEXT, sold_event("b").record)
    stores.meanwhile = lambda: stores.table.write_new(sold_rows(sold_event("a")), {})
    assert stores.compare().only_in_ledger == ("b",)
    assert stores.waits == [30.0]


def test_a_day_that_the_sales_table_has_forgotten_is_not_compared() -> None:
    stores = fake_stores()
    stores.table.write_new(sold_rows(sold_event("a", soldAt="2024-11-20T00:00:00Z")), {})
    assert stores.reconciliation.compare([TENANT], [date(2024, 11, 20)]) == []
    assert len(stores.reconciliation.compare([TENANT], [date(2024, 11, 22)])) == 1
