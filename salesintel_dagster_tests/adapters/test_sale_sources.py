"""The contract of the port SaleSource: the same class on the fake and on every kind of source."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.sale import SOURCE_FIELDS, SourceRow
from salesintel_dagster_tests.fakes.sales_api import sales_api
from salesintel_dagster_tests.fakes.source import RULES, InMemorySaleSource, sale_row
from salesintel_dagster_tests.mariadb import MariaDb
from salesintel_dagster_tests.services import PostgresService
from salesintel_dagster_tests.source_shops import ApiShop, MySqlShop, PostgresShop

DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)

SourceOf = Callable[[Sequence[SourceRow]], SaleSource]
"""Puts these rows, and no others, into the source."""


@pytest.fixture(scope="module")
def postgres_shop(postgres: PostgresService) -> PostgresShop:
    return PostgresShop(postgres.new_database())


@pytest.fixture(scope="module")
def mysql_shop(mariadb: MariaDb) -> MySqlShop:
    return MySqlShop(mariadb)


@pytest.fixture
def api_shop() -> Iterator[ApiShop]:
    with sales_api() as running:
        yield ApiShop(running)


@pytest.fixture(params=["memory", "postgres_shop", "mysql_shop", "api_shop"])
def source_of(request: pytest.FixtureRequest) -> SourceOf:
    """A shop of each kind is emptied with each filling."""
    if request.param == "memory":
        return InMemorySaleSource
    shop: PostgresShop | MySqlShop | ApiShop = request.getfixturevalue(request.param)
    return shop.fill


def _rows(source: SaleSource, day: date = DAY) -> list[SourceRow]:
    with source.read(day_window(day, ZoneInfo("UTC"))) as found:
        return [row for block in found.rows for row in block]


def _ids(source: SaleSource, day: date = DAY) -> list[object]:
    return [row["sale_id"] for row in _rows(source, day)]


class TestEverySaleSource:
    def test_it_says_whose_rows_it_may_send(self, source_of: SourceOf):
        assert source_of([]).rules == RULES

    def test_rows_come_keyed_by_our_fields_with_their_values(self, source_of: SourceOf):
        row = sale_row(NOON, brand=None, sold_price=Decimal("19.90"))
        [found] = _rows(source_of([row]))
        assert found == row
        assert set(found) == set(SOURCE_FIELDS)

    def test_the_window_is_half_open(self, source_of: SourceOf):
        """A2."""
        instants = [WINDOW.start, WINDOW.end - timedelta(microseconds=1), WINDOW.end]
        source = source_of([sale_row(instant, number) for number, instant in enumerate(instants)])
        assert _ids(source) == ["S-000000", "S-000001"]
        assert _ids(source, DAY + timedelta(days=1)) == ["S-000002"]

    def test_the_order_is_that_of_time_then_of_the_rows_own_values(self, source_of: SourceOf):
        rows = [
            sale_row(NOON, 2),
            sale_row(NOON, 1, sold_price=Decimal(2)),
            sale_row(NOON, 1, sold_price=Decimal(1)),
            sale_row(NOON, 1, sale_id="S-Ž"),
            sale_row(NOON, 1, sale_id="S-a"),
            sale_row(NOON, 1, sale_id="S-B"),
            sale_row(NOON, 1, sale_id=None),
            sale_row(NOON - timedelta(hours=1), 3),
        ]
        expected = ["S-000003", "S-000001", "S-000001", "S-000002", "S-B", "S-a", "S-Ž", None]
        random.Random(7).shuffle(rows)
        found = _rows(source_of(rows))
        assert [row["sale_id"] for row in found] == expected
        assert [row["sold_price"] for row in found[1:3]] == [Decimal(1), Decimal(2)]

    def test_rows_without_an_instant_come_last_on_the_day_they_were_recorded_or_on_every_day(self, source_of: SourceOf):
        source = source_of(
            [
                sale_row(None, 1, recorded_at=NOON),
                sale_row(None, 2, recorded_at=NOON + timedelta(days=1)),
                sale_row(None, 3, recorded_at=None),
                sale_row(NOON, 4, recorded_at=NOON + timedelta(days=1)),
            ]
        )
        assert _ids(source)[0] == "S-000004"
        assert sorted(map(str, _ids(source))) == ["S-000001", "S-000003", "S-000004"]
        assert sorted(map(str, _ids(source, DAY + timedelta(days=1)))) == ["S-000002", "S-000003"]

    def test_blocks_are_bounded(self, source_of: SourceOf):
        rows = [sale_row(WINDOW.start + timedelta(seconds=n), n) for n in range(BATCH_ROWS + 5)]
        with source_of(rows).read(WINDOW) as found:
            assert [len(block) for block in found.rows] == [BATCH_ROWS, 5]

    def test_an_empty_day_has_no_block_and_still_its_evidence(self, source_of: SourceOf):
        """A12."""
        with source_of([]).read(WINDOW) as found:
            assert list(found.rows) == []
            assert found.evidence
            assert all(isinstance(value, str) for value in found.evidence.values())


Marked = Callable[[Sequence[SourceRow]], SourceFingerprint]

ROWS = [sale_row(NOON + timedelta(minutes=n), n) for n in range(5)]


class TestEveryFingerprint:
    """A4."""

    @pytest.fixture
    def marked(self, source_of: SourceOf) -> Marked:
        def fingerprint(rows: Sequence[SourceRow]) -> SourceFingerprint:
            source = source_of(rows)
            with source.read(WINDOW) as day:
                assert source.fingerprint(WINDOW) == day.fingerprint
            return source.fingerprint(WINDOW)

        return fingerprint

    def test_a_day_without_a_row_has_one_too(self, marked: Marked):
        assert marked([]) == SourceFingerprint(0, "0" * 32)

    def test_the_order_of_the_rows_is_nothing_to_it(self, marked: Marked):
        shuffled = list(ROWS)
        random.Random(3).shuffle(shuffled)
        assert shuffled != ROWS
        assert marked(shuffled) == marked(ROWS)

    def test_each_mapped_field_changes_it(self, marked: Marked):
        changes: dict[str, object] = {
            "sale_id": "S-x",
            "product_id": "P-x",
            "tenant_id": "other",
            "category": "bags",
            "brand": None,
            "condition": "",
            "sold_price": Decimal("19.91"),
            "currency": "USD",
            "sold_at": NOON + timedelta(microseconds=1),
            "image_url": None,
        }
        marks = {marked([{**ROWS[0], name: value}, *ROWS[1:]]) for name, value in changes.items()}
        assert len(marks | {marked(ROWS)}) == len(changes) + 1
        assert {mark.rows for mark in marks} == {5}

    def test_a_row_more_a_row_less_and_a_row_twice_change_it(self, marked: Marked):
        whole = marked(ROWS)
        assert marked(ROWS[1:]).rows == 4
        marks = [whole, marked(ROWS[1:]), marked([*ROWS, ROWS[0]]), marked([*ROWS, ROWS[0], ROWS[0]])]
        assert len({mark.checksum for mark in marks}) == 4

    def test_swapping_values_between_rows_or_columns_changes_it(self, marked: Marked):
        one, two = ROWS[:2]
        swapped = [
            {**one, "sold_price": Decimal(5)},
            {**two, "sold_price": Decimal(6)},
        ]
        back = [{**one, "sold_price": Decimal(6)}, {**two, "sold_price": Decimal(5)}]
        assert marked(swapped) != marked(back)
        assert marked([{**one, "category": "a", "brand": "b,c"}]) != marked([{**one, "category": "a,b", "brand": "c"}])
        assert marked([{**one, "brand": None}]) != marked([{**one, "brand": ""}])
        assert marked([{**one, "brand": None, "condition": "x"}]) != marked([{**one, "brand": "x", "condition": None}])

    def test_only_the_rows_of_the_window_count(self, marked: Marked):
        outside = [sale_row(WINDOW.end, 90), sale_row(WINDOW.start - timedelta(microseconds=1), 91)]
        assert marked([*ROWS, *outside]) == marked(ROWS)

    def test_a_row_without_an_instant_counts_where_it_is_read(self, marked: Marked):
        lost = sale_row(None, 80, recorded_at=NOON)
        assert marked([*ROWS, lost]).rows == 6
        assert marked([*ROWS, {**lost, "recorded_at": WINDOW.end}]) == marked(ROWS)
