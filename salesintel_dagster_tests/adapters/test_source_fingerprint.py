"""A4: the fingerprint of a day of the source, on the fake and computed by a real Postgres."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.errors import SourceSchemaMismatch, SourceUnavailable
from salesintel_dagster.domain.source import SourceMapping
from salesintel_dagster_tests.fakes.source import TENANT, sale_row
from salesintel_dagster_tests.services import PostgresService
from salesintel_dagster_tests.source_shops import PostgresShop

WINDOW = day_window(date(2026, 11, 3), ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.fixture
def shop(postgres: PostgresService) -> PostgresShop:
    return PostgresShop(postgres.new_database())


ROWS = [sale_row(NOON + timedelta(minutes=n), n) for n in range(5)]


def test_the_sessions_settings_are_nothing_to_it(shop: PostgresShop):
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


def test_an_unmapped_column_is_nothing_to_it(shop: PostgresShop):
    source = shop.fill(ROWS)
    before = source.fingerprint(WINDOW)
    shop.run("UPDATE sales SET note = 'seen'", "ALTER TABLE sales ADD more text DEFAULT 'x'")
    assert source.fingerprint(WINDOW) == before


def test_local_time_a_query_and_texts_that_are_hard_to_quote_have_one(shop: PostgresShop):
    hard = [sale_row(NOON, 1, brand='a"b\\c,(d)\n\N{CAT FACE}%s'), sale_row(NOON, 2, brand="100%")]
    whole = shop.fill(hard).fingerprint(WINDOW)
    assert whole.rows == 2
    query = shop.source(table=None, query="SELECT *, '100%' AS share FROM sales WHERE category LIKE 'sho%' -- ours")
    assert query.fingerprint(WINDOW) == whole
    local = [{**row, "sold_at": NOON.replace(tzinfo=None)} for row in hard]
    shop.fill(local, instant="timestamp")
    assert shop.source(sold_at_zone="UTC").fingerprint(WINDOW) == whole


def test_a_reading_has_the_fingerprint_of_its_own_snapshot(shop: PostgresShop):
    """A4: a row that is inserted while the day is read is late, not forgotten."""
    source = shop.fill(ROWS)
    with source.read(WINDOW) as day:
        shop.run("INSERT INTO sales SELECT * FROM sales LIMIT 1")
        assert sum(len(block) for block in day.rows) == 5
    assert day.fingerprint is not None
    assert day.fingerprint.rows == 5
    assert source.fingerprint(WINDOW).rows == 6


def test_what_reading_raises_the_fingerprint_raises(shop: PostgresShop):
    shop.run("DROP TABLE IF EXISTS sales", "CREATE TABLE sales (sale_id text)")
    with pytest.raises(SourceSchemaMismatch, match="the source has no column"):
        shop.source().fingerprint(WINDOW)
    gone = SmartGoSource(
        connection_from_dsn("postgresql://u:canary-pw@127.0.0.1:9/db"), SourceMapping(tenant=TENANT), "EUR"
    )
    with pytest.raises(SourceUnavailable) as failure:
        gone.fingerprint(WINDOW)
    assert "canary-pw" not in str(failure.value)


def test_a_hundred_thousand_rows_are_summed_up_within_seconds(shop: PostgresShop):
    source = shop.fill([])
    shop.run(
        "INSERT INTO sales (sale_id, product_id, tenant_id, category, brand, condition, sold_price, currency, sold_at,"
        " image_url) SELECT 'S-' || n, 'P-' || n, 'carousel-labs', 'shoes', 'Acme', 'good', 19.9, 'EUR',"
        " timestamptz '2026-11-03 00:00+00' + n * interval '0.8 s', 'https://images.example/' || n || '.jpg'"
        " FROM generate_series(1, 100000) AS n"
    )
    began = time.monotonic()
    assert source.fingerprint(WINDOW).rows == 100_000
    seconds = time.monotonic() - began
    print(f"100,000 rows: {seconds:.2f} s")  # noqa: T201 - measured number, shown with -s
    assert seconds < 10
