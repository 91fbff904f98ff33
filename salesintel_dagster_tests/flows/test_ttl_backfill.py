from __future__ import annotations

from datetime import date, timedelta

import pytest

from salesintel_dagster.domain.errors import SalesUnavailable
from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sales_keys import KeyPair, SaleKey, guard_key_pair, sale_key_pair
from salesintel_dagster.domain.ttl_backfill import MAX_NAMED, TtlItem, TtlRehearsal, TtlTally
from salesintel_dagster.flows.ttl_backfill import Pace, backfill_ttl, lines
from salesintel_dagster_tests.fakes.clocks import SetClock
from salesintel_dagster_tests.fakes.ttl_store import InMemoryTtlStore

TODAY = date(2026, 11, 20)


def sale(sale_id: str, day: date = TODAY, ttl_type: str | None = None) -> TtlItem:
    return TtlItem(sale_key_pair("acme", SaleKey(day, "P", sale_id)), day.isoformat(), ttl_type)


def run(store: InMemoryTtlStore, pace: Pace | None = None, *, dry_run: bool = False) -> list[TtlTally]:
    return list(backfill_ttl(TtlRehearsal(store) if dry_run else store, SetClock().clock, pace or Pace(10, 1000)))


def test_e8_a_sale_gets_the_ttl_of_its_keys_day_and_a_guard_of_its_attribute():
    guard = TtlItem(guard_key_pair("acme", "S"), "2025-12-29", None)
    store = InMemoryTtlStore(sale("S", date(2025, 12, 29)), guard)
    (tally,) = run(store)
    assert set(store.set_to.values()) == {1830038400}
    assert (tally.scanned, tally.set_) == (2, 2)


def test_g10_a_rehearsal_writes_nothing_and_counts_the_same():
    store = InMemoryTtlStore(*(sale(str(n), TODAY - timedelta(days=n * 300)) for n in range(25)))
    rehearsed = run(store, dry_run=True)
    assert (store.set_to, store.kept) == ({}, None)
    assert run(store) == rehearsed
    assert [tally.scanned for tally in rehearsed] == [10, 20, 25]


def test_g11_a_run_that_failed_goes_on_behind_its_last_whole_page_and_keeps_count():
    store = InMemoryTtlStore(*(sale(str(n)) for n in range(25)), fails_after=13)
    with pytest.raises(SalesUnavailable):
        run(store)
    assert store.kept is not None
    assert store.kept.tally.scanned == 10
    store.fails_after = None
    last = run(store)[-1]
    assert (last.scanned, last.set_, last.there) == (25, 22, 3)
    assert store.kept is None
    assert len(store.set_to) == 25


def test_g12_what_is_too_old_for_dynamodb_gets_its_ttl_and_is_named():
    old = [sale(f"old-{n:02d}", date(2019, 11, 1)) for n in range(MAX_NAMED + 5)]
    store = InMemoryTtlStore(sale("new"), *old)
    last = run(store)[-1]
    assert (last.set_, last.too_old, len(last.too_old_keys)) == (26, 25, MAX_NAMED)
    assert store.set_to[old[0].key] == ttl_of(date(2019, 11, 1))
    told = lines(last, dry_run=False)
    assert told[1].startswith("25 are of sales more than seven years old")
    assert "  TENANT#acme#PRODUCT#P SALE#2019-11-01#old-00" in told
    assert told[-1] == "  ... and 5 more"


def test_what_cannot_be_read_is_named_and_what_is_no_sale_is_left_alone():
    items = [
        TtlItem(guard_key_pair("acme", "no day"), None, None),
        TtlItem(KeyPair("TENANT#acme#PRODUCT#P", "SALE#2026-02-30#x"), "2026-02-30", None),
        sale("text", ttl_type="S"),
        sale("far", date(9999, 1, 1)),
        TtlItem(KeyPair("SHARDS", "CONFIG"), None, None),
    ]
    store = InMemoryTtlStore(*items)
    last = run(store)[-1]
    assert (last.scanned, last.unreadable, last.other, last.set_) == (5, 4, 1, 0)
    assert store.set_to == {}
    assert lines(last, dry_run=True)[1].startswith("4 stay without a ttl")


def test_ids_that_other_software_wrote_unescaped_stop_nothing_and_their_sales_get_the_ttl_of_their_day():
    items = [
        TtlItem(KeyPair(f"TENANT#acme#PRODUCT#{product}", "SALE#2025-12-29#x"), "2025-12-29", None)
        for product in ("100%", "50%ff", "a#b")
    ]
    store = InMemoryTtlStore(*items, sale("S"))
    assert run(store)[-1].set_ == 4
    assert [store.set_to[item.key] for item in items] == [1830038400] * 3


def test_an_empty_table_is_done_at_once():
    assert run(InMemoryTtlStore()) == [TtlTally()]


def test_the_pace_is_kept_over_pages():
    clock = SetClock()
    store = InMemoryTtlStore(*(sale(str(n)) for n in range(30)))
    list(backfill_ttl(store, clock.clock, Pace(page_items=10, items_per_second=5)))
    assert clock.slept == [2.0, 2.0]
