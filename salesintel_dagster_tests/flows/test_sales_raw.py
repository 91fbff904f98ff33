from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.columns import BATCH_ROWS, RAW_SCHEMA
from salesintel_dagster.domain.errors import (
    EmptyReplacement,
    SourceRefused,
    SourceUnavailable,
    StoreUnavailable,
)
from salesintel_dagster.domain.ports import DayScope
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster.flows.export.quarantine import CONFLICT, Quarantine
from salesintel_dagster.flows.export.run import SALES_RAW
from salesintel_dagster.flows.export.sales_raw import MAX_CONFLICTS_NAMED, SalesRead, read_sales
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.progress import InMemoryProgressLedger
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable, sale_rows
from salesintel_dagster_tests.fakes.source import InMemorySaleSource, sale_row

DAY = date(2026, 11, 3)
START = datetime(2026, 11, 3, tzinfo=UTC)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@dataclass(slots=True)
class World:
    source: InMemorySaleSource
    store: InMemoryObjectStore
    table: InMemorySalesTable

    @property
    def staged(self) -> StagedDays:
        return StagedDays(self.store, "smartgo")

    @property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.store, "smartgo")

    def read(
        self,
        day: date = DAY,
        *,
        zone: str = "UTC",
        allow_empty: bool = False,
        retry: RetryPolicy = SOURCE_RETRY,
        clock: Clock = SYSTEM_CLOCK,
    ) -> SalesRead:
        result = read_sales(
            export_run(day, zone=zone, clock=clock).run,
            self.source,
            self.staged,
            self.quarantine,
            self.table,
            allow_empty=allow_empty,
            retry=retry,
        )
        assert result.rows + result.quarantined.total + result.duplicates == result.read
        assert result.quarantined.total == sum(1 for _ in self.quarantine.read(day))
        return result

    def sales(self, day: date = DAY) -> list[dict[str, object]]:
        with self.staged.batches(SALES_RAW, day) as batches:
            return [row for batch in batches for row in batch.to_pylist()]

    def ids(self, day: date = DAY) -> list[object]:
        return [sale["sale_id"] for sale in self.sales(day)]

    def fill_table(self, rows: int, day: date = DAY) -> None:
        scope = DayScope(day, ("carousel-labs",), "smartgo")
        self.table.replace_day(scope, lambda: iter([sale_rows(scope, rows)]), {}, allow_empty=False)


def _world(*rows: SourceRow) -> World:
    return World(InMemorySaleSource(rows), InMemoryObjectStore(), InMemorySalesTable())


def _rows(count: int, **changed: object) -> list[SourceRow]:
    return [sale_row(START + timedelta(milliseconds=number), number, **changed) for number in range(count)]


def test_every_source_row_becomes_a_staged_sale():
    world = _world(*_rows(3))
    result = world.read()
    assert (result.rows, result.read, result.duplicates, result.quarantined.total) == (3, 3, 0, 0)
    assert result.price_sum == Decimal("59.70")
    assert result.evidence == {"source": "memory", "rows": "3"}
    assert result.bytes == len(world.store.objects[world.staged.key(SALES_RAW, DAY)])
    assert world.ids() == ["S-000000", "S-000001", "S-000002"]
    with world.staged.open(SALES_RAW, DAY) as parquet:
        assert parquet is not None
        assert parquet.schema_arrow.equals(RAW_SCHEMA)


@pytest.mark.parametrize("clock", ["2026-11-04T03:00:00Z", "2026-11-04T09:17:00Z", "2026-11-05T23:59:59Z"])
def test_the_hour_of_the_run_changes_nothing_in_what_it_writes(clock: str):
    """A1: the staged file and the quarantine are the same, byte by byte, whenever the run happens."""
    rows = [*_rows(5), sale_row(NOON, 7, sold_price=None)]
    expected = _world(*rows)
    expected.read()
    world = _world(*rows)
    with time_machine.travel(clock, tick=False):
        world.read()
    assert len(world.store.objects) == 2
    assert world.store.objects == expected.store.objects


def test_the_first_and_last_microsecond_are_of_the_day_and_midnight_is_of_the_next():
    """A2."""
    instants = [START, START + timedelta(days=1, microseconds=-1), START + timedelta(days=1)]
    world = _world(*(sale_row(instant, number) for number, instant in enumerate(instants)))
    world.read(DAY)
    world.read(DAY + timedelta(days=1))
    assert world.ids(DAY) == ["S-000000", "S-000001"]
    assert world.ids(DAY + timedelta(days=1)) == ["S-000002"]


@pytest.mark.parametrize(
    "zone,changing", [("UTC", DAY), ("Europe/Vilnius", date(2026, 10, 25)), ("Pacific/Auckland", date(2026, 9, 27))]
)
def test_the_days_of_a_zone_together_hold_every_sale_once(zone: str, changing: date):
    """A3: 400 random instants around a day that is 24, 25 or 23 hours long."""
    chance = random.Random(zone)
    noon = datetime(changing.year, changing.month, changing.day, 12, tzinfo=ZoneInfo(zone))
    rows = [sale_row(noon + timedelta(microseconds=chance.randint(-(10**11), 10**11)), n) for n in range(400)]
    world = _world(*rows)
    days = days_between(changing - timedelta(days=3), changing + timedelta(days=3))
    assert sum(world.read(day, zone=zone).rows for day in days) == 400
    sales = [(day, sale) for day in days for sale in world.sales(day)]
    assert {sale["sale_id"] for _, sale in sales} == {row["sale_id"] for row in rows}
    assert all(sale["sold_date"] == day == sale["sold_at"].astimezone(ZoneInfo(zone)).date() for day, sale in sales)


def test_reading_again_after_a_change_replaces_the_day_and_touches_no_other():
    """A5."""
    tomorrow = DAY + timedelta(days=1)
    world = _world(*_rows(3), sale_row(NOON + timedelta(days=1), 9))
    world.read(DAY)
    world.read(tomorrow)
    other = world.store.objects[world.staged.key(SALES_RAW, tomorrow)]
    world.source.rows[0] = sale_row(START, 0, sold_price=Decimal(7))
    del world.source.rows[1]
    world.read(DAY)
    assert [(sale["sale_id"], sale["sold_price"]) for sale in world.sales()] == [
        ("S-000000", Decimal("7.00")),
        ("S-000002", Decimal("19.90")),
    ]
    assert world.store.objects[world.staged.key(SALES_RAW, tomorrow)] == other


def test_reading_five_times_gives_the_same_rows_and_ids():
    """A6, also for sales whose id is generated."""
    world = _world(*_rows(2), sale_row(NOON, 5, sale_id=None))
    first = world.read()
    once = dict(world.store.objects)
    for _ in range(4):
        again = world.read()
        assert (again.rows, again.price_sum) == (first.rows, first.price_sum)
    assert world.store.objects == once
    assert len(set(world.ids())) == 3


def test_no_sale_where_the_table_has_some_is_refused_and_changes_nothing():
    """A11."""
    world = _world(*_rows(2), sale_row(NOON, 8, sold_price=None))
    world.read()
    world.fill_table(2)
    before = dict(world.store.objects)
    world.source.rows.clear()
    with pytest.raises(EmptyReplacement, match="2026-11-03: no sale in the source's 0 rows, but the table has 2"):
        world.read()
    assert world.store.objects == before


def test_allow_empty_replaces_a_day_by_nothing():
    """A11."""
    world = _world(*_rows(2))
    world.read()
    world.fill_table(2)
    world.source.rows.clear()
    assert world.read(allow_empty=True).rows == 0
    assert world.sales() == []


def test_a_day_whose_rows_are_all_bad_is_refused_and_its_quarantine_tells_why():
    """A11."""
    world = _world(*_rows(2))
    world.read()
    world.fill_table(2)
    staged = world.store.objects[world.staged.key(SALES_RAW, DAY)]
    world.source.rows = _rows(2, sold_price=None)
    with pytest.raises(EmptyReplacement, match="source's 2 rows"):
        world.read()
    assert world.store.objects[world.staged.key(SALES_RAW, DAY)] == staged
    assert [entry.code for entry in world.quarantine.read(DAY)] == ["PRICE_MISSING"] * 2


def test_another_days_or_tenants_rows_do_not_make_an_empty_day_suspicious():
    """A11."""
    world = _world()
    world.fill_table(2, DAY - timedelta(days=1))
    scope = DayScope(DAY, ("somebody-else",), "smartgo")
    world.table.replace_day(scope, lambda: iter([sale_rows(scope, 2)]), {}, allow_empty=False)
    assert world.read().rows == 0


def test_a_genuinely_empty_day_is_staged_with_its_evidence():
    """A12."""
    world = _world(sale_row(NOON + timedelta(days=3)))
    result = world.read()
    assert (result.rows, result.read, result.price_sum) == (0, 0, Decimal(0))
    assert result.evidence
    assert world.sales() == []


BAD = {
    "TENANT_MISSING": {"tenant_id": None},
    "TENANT_UNKNOWN": {"tenant_id": "somebody-else"},
    "FIELD_MISSING": {"product_id": ""},
    "SOLD_AT_MISSING": {"sold_at": None},
    "PRICE_MISSING": {"sold_price": None},
    "PRICE_NOT_POSITIVE": {"sold_price": Decimal(-1)},
    "PRICE_INVALID": {"sold_price": Decimal("NaN")},
    "PRICE_TOO_LARGE": {"sold_price": Decimal("1" * 39)},
}


def test_bad_rows_go_into_the_quarantine_with_their_reason_and_the_others_are_exported():
    """A16."""
    bad = [sale_row(NOON, number) | changed for number, changed in enumerate(BAD.values(), start=100)]
    world = _world(*_rows(5), *bad)
    result = world.read()
    assert result.rows == 5
    assert result.quarantined.by_status == dict.fromkeys(BAD, 1)
    entries = list(world.quarantine.read(DAY))
    assert {entry.sale_id: entry.code for entry in entries} == {
        f"S-{number:06d}": code for number, code in enumerate(BAD, start=100)
    }
    assert entries[-1].code == "SOLD_AT_MISSING"


def test_a_tenant_of_300_characters_is_quarantined_and_the_batch_goes_on():
    """D9"""
    world = _world(*_rows(3), sale_row(NOON, 100) | {"tenant_id": "t" * 300})
    read = world.read()
    assert (read.rows, dict(read.quarantined.by_status)) == (3, {"TENANT_INVALID": 1})


def test_a_row_that_was_mended_leaves_the_quarantine_at_the_next_reading():
    world = _world(sale_row(NOON, 1, sold_price=None), sale_row(NOON, 2, sold_price=None))
    world.read()
    world.source.rows[0] = sale_row(NOON, 1)
    result = world.read()
    assert (result.rows, result.quarantined.total) == (1, 1)
    assert [entry.sale_id for entry in world.quarantine.read(DAY)] == ["S-000002"]


def test_the_same_sale_sent_twice_is_one():
    """A17: equal in what we keep, whatever its spelling."""
    row = sale_row(NOON, 1)
    world = _world(row, row, row | {"sold_price": "19.9", "currency": "eur"})
    result = world.read()
    assert (result.rows, result.duplicates, result.quarantined.total) == (1, 2, 0)
    assert result.price_sum == Decimal("19.90")


def test_of_one_id_with_two_contents_the_first_in_stable_order_is_kept_and_the_rest_are_conflicts():
    """A17."""
    first, later = sale_row(NOON, 1), sale_row(NOON + timedelta(minutes=1), 1)
    dearer = sale_row(NOON, 1, sold_price=Decimal("20.00"))
    world = _world(later, dearer, first, first)
    result = world.read()
    assert (result.rows, result.duplicates) == (1, 1)
    assert result.conflicts == ("carousel-labs/S-000001", "carousel-labs/S-000001")
    assert result.quarantined.by_status == {CONFLICT: 2}
    assert world.sales()[0]["sold_price"] == Decimal("19.90")
    assert [entry.sale_id for entry in world.quarantine.read(DAY)] == ["S-000001", "S-000001"]


def test_rows_without_an_id_that_collide_are_one_sale_or_a_conflict():
    """A17: same product, same microsecond."""
    row = sale_row(NOON, 1, sale_id=None)
    world = _world(row, row, row | {"sold_price": Decimal("20.00")})
    result = world.read()
    assert (result.rows, result.duplicates, result.quarantined.by_status) == (1, 1, {CONFLICT: 1})
    [entry] = world.quarantine.read(DAY)
    assert result.conflicts == (f"carousel-labs/{entry.sale_id}",)
    assert entry.sale_id == world.ids()[0]


def test_conflicts_are_named_up_to_a_bound_and_all_counted():
    """A17."""
    rows = [sale_row(NOON, n, sold_price=Decimal(price)) for n in range(50) for price in (1, 2)]
    result = _world(*rows).read()
    assert len(result.conflicts) == MAX_CONFLICTS_NAMED
    assert result.quarantined.by_status == {CONFLICT: 50}


def test_a_product_sold_twice_in_a_day_and_twice_in_a_month_is_in_every_row():
    """A19."""
    rows = [
        sale_row(NOON, 1, product_id="P-1", sale_id=None),
        sale_row(NOON + timedelta(hours=1), 2, product_id="P-1", sale_id=None),
        sale_row(NOON + timedelta(days=5), 3, product_id="P-1"),
    ]
    world = _world(*rows)
    assert world.read().rows == 2
    assert world.read(DAY + timedelta(days=5)).rows == 1


ONE_ROW = st.builds(
    lambda number, changed: sale_row(NOON + timedelta(seconds=number), number) | changed,
    st.integers(0, 4),
    st.sampled_from([{}, {}, {"sold_price": Decimal(5)}, {"sale_id": None}, *BAD.values()]),
)


@given(rows=st.lists(ONE_ROW, max_size=30))
def test_every_row_ends_in_exactly_one_place_and_ids_are_unique(rows: Sequence[SourceRow]):
    world = _world(*rows)
    result = world.read()
    sales = world.sales()
    assert result.read == len(rows)
    assert result.rows == len(sales) == len({(sale["tenant_id"], sale["sale_id"]) for sale in sales})
    assert result.price_sum == sum(sale["sold_price"] for sale in sales)


def test_all_batches_but_the_last_are_full_even_when_rows_are_rejected():
    rows = _rows(2 * BATCH_ROWS + 700)
    for index in range(0, len(rows), 10):
        rows[index] = rows[index] | {"sold_price": None}
    world = _world(*rows)
    result = world.read()
    with world.staged.batches(SALES_RAW, DAY) as batches:
        sizes = [batch.num_rows for batch in batches]
    assert sizes == [BATCH_ROWS, BATCH_ROWS, result.rows - 2 * BATCH_ROWS]


@pytest.mark.long
def test_a_source_that_breaks_off_leaves_the_day_as_it_was():
    world = _world(*_rows(BATCH_ROWS + 1))
    world.read()
    before = dict(world.store.objects)
    world.source.rows[0] = sale_row(START, 0, sold_price=Decimal(1))
    world.source.fail(SourceUnavailable("dropped"), after_blocks=1)
    with pytest.raises(SourceUnavailable):
        world.read(retry=RetryPolicy(retries=0))
    assert world.store.objects == before
    world.read()
    assert world.sales()[0]["sold_price"] == Decimal("1.00")


class SteppingClock:
    """A clock that only sleeping moves; `slept` are the waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.clock = Clock(lambda: NOON, lambda: sum(self.slept), self.slept.append, lambda: 0.0)


@pytest.mark.long
def test_a_source_that_breaks_off_is_read_again_from_its_first_row():
    """A13: rows of the first try are neither doubled nor kept."""
    world = _world(*_rows(BATCH_ROWS + 1), sale_row(NOON, 5_000, sold_price=None))
    time = SteppingClock()
    for _ in range(2):
        world.source.fail(SourceUnavailable("dropped"), after_blocks=1)
    result = world.read(clock=time.clock)
    assert (result.read, result.rows, result.quarantined.total) == (BATCH_ROWS + 2, BATCH_ROWS + 1, 1)
    assert len(set(world.ids())) == BATCH_ROWS + 1
    assert time.slept == [1.0, 2.0]
    assert world.source.deadlines == [900.0, 899.0, 897.0]


def test_a_source_that_stays_away_is_given_up_within_tries_and_deadline():
    """A13."""
    for retry, tries in ((SOURCE_RETRY, 3), (RetryPolicy(9, 1.0, 5.0), 3), (RetryPolicy(retries=0), 1)):
        world = _world(*_rows(1))
        time = SteppingClock()
        for _ in range(10):
            world.source.fail(SourceUnavailable("down"))
        with pytest.raises(SourceUnavailable, match="down"):
            world.read(retry=retry, clock=time.clock)
        assert (len(world.source.reads), sum(time.slept) <= retry.deadline_seconds) == (tries, True)
        assert world.store.objects == {}


def test_a_source_that_lets_nobody_in_is_asked_once():
    """A wrong password tried three times locks the account."""
    world = _world(*_rows(1))
    world.source.fail(SourceRefused("the server refused the user or the password"))
    with pytest.raises(SourceRefused):
        world.read()
    assert len(world.source.reads) == 1


def test_a_store_that_fails_at_the_end_leaves_the_staged_day_as_it_was():
    world = _world(*_rows(1))
    world.read()
    before = world.store.objects[world.staged.key(SALES_RAW, DAY)]
    world.source.rows.clear()
    world.store.fail("put", StoreUnavailable("down"), only="staging/")
    with pytest.raises(StoreUnavailable):
        world.read()
    assert world.store.objects[world.staged.key(SALES_RAW, DAY)] == before


def test_progress_and_log_tell_the_counts_while_it_reads_and_at_the_end():
    seconds = iter(range(0, 10_000, 4))
    clock = Clock(lambda: NOON, lambda: float(next(seconds)), lambda _: None, lambda: 0.0)
    ledger = InMemoryProgressLedger()
    testing = export_run(DAY, clock=clock, ledger=ledger)
    world = _world(*_rows(BATCH_ROWS), sale_row(NOON, 5_000, sold_price=None))
    read_sales(testing.run, world.source, world.staged, world.quarantine, world.table, allow_empty=False)
    record = ledger.newest(DAY)
    assert record is not None
    assert (record.stage, record.sales, record.quarantined) == (SALES_RAW, BATCH_ROWS, 1)
    assert testing.said[0] == (
        "[SmartGoExporter] Reading sales tenant=carousel-labs partition=2026-11-03 sales=2000 quarantined=0"
    )
    assert testing.said[-1].startswith(
        "[SmartGoExporter] Found sales to export tenant=carousel-labs partition=2026-11-03 "
        "sales=2000 quarantined=1 duplicates=0 seconds="
    )
