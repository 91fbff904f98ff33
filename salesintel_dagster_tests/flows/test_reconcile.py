from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date

import pytest

from salesintel_dagster.domain.keyed_table import KeyedTable
from salesintel_dagster.domain.reconciliation import DayComparison, event_of, judged
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster.domain.sales_repository import SalesRepository
from salesintel_dagster.domain.tenancy import CallerContext
from salesintel_dagster.flows.sync.drain import EventSync
from salesintel_dagster.flows.sync.parts import SyncParts, SyncTally
from salesintel_dagster.flows.sync.reconcile import Reconciliation, Repaired
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.event_queue import InMemoryEventQueue, InMemoryQuarantine, InMemoryReceipts
from salesintel_dagster_tests.fakes.events import OTHER_TENANT, TENANT, envelope, sold
from salesintel_dagster_tests.fakes.keyed_table import InMemoryKeyedTable, sold_event, sold_rows
from salesintel_dagster_tests.fakes.sales_repository import InMemorySalesRepository
from salesintel_dagster_tests.fakes.sync_world import SYNC_RULES

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
        self.clock = replace(held_clock(), sleep=self._sleep)
        self.receipts = InMemoryReceipts(self.clock)
        self.reconciliation = Reconciliation(self.ledger, self.table, self.receipts, self.clock)
        self.meanwhile: Callable[[], object] = lambda: None

    def both(self, *events: SaleEvent) -> None:
        for event in events:
            self.ledger.put(CallerContext(event.identity.tenant_id), event.record)
        self.table.write_new(sold_rows(*events), {})

    def event_comes(self, body: str) -> SyncTally:
        queue = InMemoryEventQueue(clock=self.clock)
        queue.send(body)
        parts = SyncParts(queue, InMemoryQuarantine(), self.receipts, self.ledger, self.table)
        return sum(EventSync(parts, SYNC_RULES, self.clock, "run-2", lambda _line: None).drain(), SyncTally())

    def row(self, sale_id: str) -> dict[str, object]:
        (found,) = self.table.rows_of(TENANT, DAY, [sale_id]).to_pylist()
        return {name: value for name, value in found.items() if name not in ("run_id", "ingestion_timestamp")}

    def compare(self) -> DayComparison:
        (found,) = self.reconciliation.compare([TENANT], [DAY])
        return found

    def assert_same_after_repair(self, expected: Repaired) -> None:
        before = self.compare()
        assert self.reconciliation.repair(before, "run-9") == expected
        assert self.compare().differences == 0
        assert self.reconciliation.repair(before, "run-9") == Repaired()

    def repaired_days(self, *days: date) -> tuple[list[str], list[Repaired], list[str]]:
        """Return the differences of the days, what their repairs did, and the differences after that."""
        before = self.reconciliation.compare([TENANT], days)
        done = [self.reconciliation.repair(one, "run-9") for one in before]
        after = self.reconciliation.compare([TENANT], days)
        return [told for one in before for told in one.offenders()], done, [t for one in after for t in one.offenders()]

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.meanwhile()


def fake_stores() -> Stores:
    table = InMemoryKeyedTable()
    return Stores(InMemorySalesRepository(held_clock()), table, lambda sale: table.rows.pop(SaleIdentity(TENANT, sale)))


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.world)])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    if request.param == "fake":
        yield fake_stores()
        return
    from salesintel_dagster_tests.real_stores import real_stores  # noqa: PLC0415 - no AWS, no Iceberg in the quick loop

    with real_stores(request.getfixturevalue("aws"), request.getfixturevalue("tmp_path")) as (ledger, table, delete):
        yield Stores(ledger, table, delete)


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
    lost = {"run_id", "ingestion_timestamp", "condition_raw", "embedding_status"}
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


WHOLE = sold("b", embedding=VECTOR, imageS3Key="images/b.jpg", embeddingS3Key="vectors/b.json", condition="Good!")


@pytest.mark.parametrize("lost_by", ["sales_history", "the sales table"])
def test_what_a_repair_could_not_know_comes_with_the_event_whenever_that_comes(stores: Stores, lost_by: str) -> None:
    body = envelope(WHOLE, "e-1")
    assert stores.event_comes(body).written == 1
    row, sale = stores.row("b"), stores.ledger.by_sale_id(CONTEXT, "b")
    assert sale is not None
    if lost_by == "sales_history":
        stores.delete_row("b")
        stores.assert_same_after_repair(Repaired(to_table=1))
        bare = stores.row("b")
        assert [bare[name] for name in ("embedding_vector", "image_s3_key", "condition_raw", "embedding_status")] == [
            None,
            None,
            None,
            "REPAIRED",
        ]
    else:
        stores.ledger.delete(CONTEXT, "b")
        stores.assert_same_after_repair(Repaired(to_ledger=1))
    assert stores.event_comes(body).received == 1
    again = stores.ledger.by_sale_id(CONTEXT, "b")
    assert again is not None
    assert (stores.row("b"), again.record) == (row, sale.record)
    assert stores.compare().differences == 0
    assert stores.event_comes(body).duplicates == 1
    stores.receipts.written.clear()
    assert stores.event_comes(body).duplicates == 1
    assert stores.row("b") == row


def test_a_repair_changes_no_row_that_came_with_its_event(stores: Stores) -> None:
    stores.both(sold_event("a", embedding=VECTOR))
    row = stores.row("a")
    known = event_of(sold_event("a", embedding=VECTOR).record)
    assert stores.table.write_new(sold_rows(known, repaired=True), {}).held == 1
    assert stores.row("a") == row


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


LATER = date(2026, 11, 4)
MOVED = {"salePrice": 1, "soldAt": "2026-11-04T00:00:00Z"}


@pytest.mark.parametrize("newer", ["ledger", "table"])
def test_a_correction_that_moved_the_day_stands_on_both_sides_after_a_repair(stores: Stores, newer: str) -> None:
    """F28: its worker died between the stores, and its message is gone for good."""
    first, second = sold_event("a"), sold_event("a", eventVersion=2, **MOVED)
    stores.ledger.put(CONTEXT, (second if newer == "ledger" else first).record)
    stores.table.write_new(sold_rows(first if newer == "ledger" else second), {})
    before, done, after = stores.repaired_days(DAY, LATER)
    assert (len(before), after) == (2, [])
    given = Repaired(to_table=1) if newer == "ledger" else Repaired(to_ledger=1)
    assert done == [Repaired(), given]
    assert stores.table.days_of(TENANT, ["a", "b"]) == {"a": LATER}
    held = stores.ledger.by_sale_id(CONTEXT, "a")
    assert held is not None
    assert (held.record.sold_date, held.record.event_version) == (LATER, 2)


def test_two_payloads_of_one_version_under_two_days_are_left_for_a_person(stores: Stores) -> None:
    stores.ledger.put(CONTEXT, sold_event("a").record)
    stores.table.write_new(sold_rows(sold_event("a", **MOVED)), {})
    before, done, after = stores.repaired_days(DAY, LATER)
    assert done == [Repaired(left=("a",)), Repaired(left=("a",))]
    assert (len(before), after) == (2, before)


@pytest.mark.parametrize("day", [LATER, date(2026, 12, 4)])
def test_a_sale_moved_by_hand_is_left_for_a_person_and_never_doubled(stores: Stores, day: date) -> None:
    event = sold_event("a")
    stores.both(event)
    moved = {"sold_date": day, "sold_at": event.record.sold_at + (day - DAY)}
    stores.ledger.update(CONTEXT, "a", moved, 1)
    before, done, after = stores.repaired_days(DAY, day)
    assert (len(before), after) == (2, before)
    assert sum((one.left for one in done), ()) in (("a",), ("a", "a"))
    assert [(one.to_table, one.to_ledger) for one in done] == [(0, 0), (0, 0)]
    assert stores.table.days_of(TENANT, ["a"]) == {"a": DAY}
    assert stores.table.of_day(TENANT, day) == {}


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
