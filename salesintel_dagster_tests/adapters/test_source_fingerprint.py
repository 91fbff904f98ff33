"""A4: the fingerprint of a day of the source, on the fake and computed by a real Postgres."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql

from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.fingerprint import SourceFingerprint
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster.domain.source import SourceMapping
from salesintel_dagster_tests.fakes.source import TENANT, InMemorySaleSource, sale_row
from salesintel_dagster_tests.services import PostgresService

WINDOW = day_window(date(2026, 11, 3), ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
TABLE = """
CREATE TABLE sales (
    sale_id text, product_id text, tenant_id text, category text, brand text, condition text,
    sold_price {price}, currency text, sold_at {instant}, image_url text, recorded_at timestamptz, note text
)
"""


class Shop:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def fill(self, rows: Sequence[SourceRow], price: str = "numeric", instant: str = "timestamptz") -> SmartGoSource:
        """Make the table anew with these rows, in this order."""
        self.run("DROP TABLE IF EXISTS sales", TABLE.format(price=price, instant=instant))
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            for row in rows:
                names = sql.SQL(", ").join(map(sql.Identifier, row))
                places = sql.SQL(", ").join([sql.Placeholder()] * len(row))
                cursor.execute(sql.SQL("INSERT INTO sales ({}) VALUES ({})").format(names, places), list(row.values()))
        return self.source()

    def source(self, **mapping: object) -> SmartGoSource:
        words = {"tenants": frozenset({TENANT}), "columns": {"recorded_at": "recorded_at"}} | mapping
        return SmartGoSource(connection_from_dsn(self.dsn), SourceMapping(**words), "EUR")


@pytest.fixture
def shop(postgres: PostgresService) -> Shop:
    return Shop(postgres.new_database())


Marked = Callable[[Sequence[SourceRow]], SourceFingerprint]

ROWS = [sale_row(NOON + timedelta(minutes=n), n) for n in range(5)]


class TestEveryFingerprint:
    @pytest.fixture(params=["memory", "postgres"])
    def marked(self, request: pytest.FixtureRequest) -> Marked:
        def source_of(rows: Sequence[SourceRow]) -> SaleSource:
            if request.param == "memory":
                return InMemorySaleSource(rows)
            shop: Shop = request.getfixturevalue("shop")
            return shop.fill(rows)

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


def test_the_sessions_settings_are_nothing_to_it(shop: Shop):
    for price, instant in (("numeric", "timestamptz"), ("float8", "timestamptz"), ("real", "timestamptz")):
        before = shop.fill(ROWS, price, instant).fingerprint(WINDOW)
        name = connection_from_dsn(shop.dsn).database
        shop.run(
            f"ALTER DATABASE {name} SET TimeZone = 'Pacific/Auckland'",
            f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'",
            f"ALTER DATABASE {name} SET extra_float_digits = -15",
            f"ALTER DATABASE {name} SET lc_numeric = 'C'",
        )
        assert shop.source().fingerprint(WINDOW) == before
        shop.run(f"ALTER DATABASE {name} RESET ALL")


def test_an_unmapped_column_is_nothing_to_it(shop: Shop):
    source = shop.fill(ROWS)
    before = source.fingerprint(WINDOW)
    shop.run("UPDATE sales SET note = 'seen'", "ALTER TABLE sales ADD more text DEFAULT 'x'")
    assert source.fingerprint(WINDOW) == before


def test_local_time_a_query_and_texts_that_are_hard_to_quote_have_one(shop: Shop):
    hard = [sale_row(NOON, 1, brand='a"b\\c,(d)\n\N{CAT FACE}%s'), sale_row(NOON, 2, brand="100%")]
    whole = shop.fill(hard).fingerprint(WINDOW)
    assert whole.rows == 2
    query = shop.source(table=None, query="SELECT *, '100%' AS share FROM sales WHERE category LIKE 'sho%' -- ours")
    assert query.fingerprint(WINDOW) == whole
    local = [{**row, "sold_at": NOON.replace(tzinfo=None)} for row in hard]
    shop.fill(local, instant="timestamp")
    assert shop.source(sold_at_zone="UTC").fingerprint(WINDOW) == whole


def test_a_reading_has_the_fingerprint_of_its_own_snapshot(shop: Shop):
    """A4: a row that is inserted while the day is read is late, not forgotten."""
    source = shop.fill(ROWS)
    with source.read(WINDOW) as day:
        shop.run("INSERT INTO sales SELECT * FROM sales LIMIT 1")
        assert sum(len(block) for block in day.rows) == 5
    assert day.fingerprint is not None
    assert day.fingerprint.rows == 5
    assert source.fingerprint(WINDOW).rows == 6


def test_what_reading_raises_the_fingerprint_raises(shop: Shop):
    shop.run("CREATE TABLE sales (sale_id text)")
    with pytest.raises(SourceSchemaMismatch, match="the source has no column"):
        shop.source().fingerprint(WINDOW)
    gone = SmartGoSource(
        connection_from_dsn("postgresql://u:canary-pw@127.0.0.1:9/db"), SourceMapping(tenant=TENANT), "EUR"
    )
    with pytest.raises(SourceUnavailable) as failure:
        gone.fingerprint(WINDOW)
    assert "canary-pw" not in str(failure.value)


def test_a_hundred_thousand_rows_are_summed_up_within_seconds(shop: Shop):
    source = shop.fill([])
    shop.run(
        "INSERT INTO sales SELECT 'S-' || n, 'P-' || n, 'carousel-labs', 'shoes', 'Acme', 'good', 19.9, 'EUR',"
        " timestamptz '2026-11-03 00:00+00' + n * interval '0.8 s', 'https://images.example/' || n || '.jpg'"
        " FROM generate_series(1, 100000) AS n"
    )
    began = time.monotonic()
    assert source.fingerprint(WINDOW).rows == 100_000
    seconds = time.monotonic() - began
    print(f"100,000 rows: {seconds:.2f} s")  # noqa: T201 - measured number, shown with -s
    assert seconds < 10
