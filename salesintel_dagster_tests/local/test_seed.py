"""The demo's sales in a real Postgres: the same every time, realistic, with known dirt."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from salesintel_dagster.domain.calendar import day_window, days_between
from salesintel_dagster.domain.sale import SOURCE_FIELDS, Rejection, RowRules, Sale, parse_sale
from salesintel_dagster.local.image_faults import fault_named
from salesintel_dagster.local.seed import BAD_IMAGES, SPOILT, SeedReport, product_of, sales_of_day, seed_demo
from salesintel_dagster_tests.services import PostgresService

BASE = "http://127.0.0.1:20001"
WEEK = days_between(date(2026, 3, 2), date(2026, 3, 8))
RULES = RowRules(frozenset({"carousel-labs"}), "EUR", "carousel-labs")


@pytest.fixture
def smartgo(postgres: PostgresService) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.new_database()) as connection:
        yield connection


def rows_of(connection: psycopg.Connection) -> list[str]:
    """Every row as text: a NaN price equals itself there."""
    return [row for (row,) in connection.execute("SELECT sales::text FROM sales ORDER BY load_key")]


@dataclass(frozen=True, slots=True)
class Week:
    connection: psycopg.Connection
    images: Path
    report: SeedReport


@pytest.fixture(scope="module")
def week(postgres: PostgresService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    """The default week, seeded once; its tests only read or seed it again."""
    images = tmp_path_factory.mktemp("images")
    with psycopg.connect(postgres.new_database()) as connection:
        yield Week(connection, images, seed_demo(connection, images, BASE, days=WEEK))


def test_a_week_is_seeded_and_a_second_call_adds_nothing(week: Week) -> None:
    first = week.report
    before = rows_of(week.connection)
    again = seed_demo(week.connection, week.images, BASE, days=WEEK)
    assert (first.added, len(before), again.added, again.pictures_drawn) == (first.sales, first.sales, 0, 0)
    assert rows_of(week.connection) == before
    assert 950 <= first.sales <= 1150
    assert first.bad_rows == 6
    assert "sales added for 7 days" in str(first)


def test_two_databases_hold_the_same_rows_but_for_the_image_hosts_port(
    postgres: PostgresService, smartgo: psycopg.Connection, tmp_path: Path
) -> None:
    seed_demo(smartgo, tmp_path, BASE, days=WEEK[:2], sales_per_day=40)
    with psycopg.connect(postgres.new_database()) as other:
        seed_demo(other, tmp_path, BASE + "/", days=WEEK[1::-1], sales_per_day=40)
        assert rows_of(other) == rows_of(smartgo)
        seed_demo(other, tmp_path, "http://127.0.0.1:20002", days=WEEK[:2], sales_per_day=40)
        urls = [url for (url,) in other.execute("SELECT image_url FROM sales")]
    assert all(url.startswith("http://127.0.0.1:20002/") for url in urls)


def test_a_change_made_by_hand_outlives_the_next_seeding(smartgo: psycopg.Connection, tmp_path: Path) -> None:
    seed_demo(smartgo, tmp_path, BASE, days=WEEK[:1], sales_per_day=10)
    smartgo.execute("UPDATE sales SET sold_price = 1.23")
    smartgo.execute(
        "INSERT INTO sales (sale_id, product_id, category, sold_price, sold_at) VALUES ('x','x','x',1,now())"
    )
    seed_demo(smartgo, tmp_path, BASE, days=WEEK[:1], sales_per_day=10)
    prices = smartgo.execute("SELECT DISTINCT sold_price FROM sales WHERE sale_id <> 'x'").fetchall()
    assert prices == [(Decimal("1.23"),)]


def test_each_day_holds_its_own_sales_and_the_table_has_an_index_on_sold_at(
    smartgo: psycopg.Connection, tmp_path: Path
) -> None:
    seed_demo(smartgo, tmp_path, BASE, days=WEEK[:3], sales_per_day=30)
    days = {row[0].astimezone(UTC).date() for row in smartgo.execute("SELECT sold_at FROM sales")}
    assert days == set(WEEK[:3])
    assert smartgo.execute("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%(sold_at)'").fetchone() == (1,)
    assert smartgo.execute("SELECT count(*) FROM sales WHERE recorded_at <= sold_at").fetchone() == (0,)


@pytest.mark.parametrize("name", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_days_sales_are_of_that_day_in_the_partitions_zone(name: str) -> None:
    zone = ZoneInfo(name)
    for day in [*WEEK, date(2026, 3, 29), date(2026, 4, 5)]:
        window = day_window(day, zone)
        sales = sales_of_day(day, 150, 7, zone)
        moments = [sale.line.sold_at for sale in sales if sale.line.sold_at is not None]
        assert {window.start <= moment < window.end for moment in moments} == {True}
        assert {moment.tzinfo for moment in moments} == {UTC}


def test_exactly_the_spoilt_rows_break_a_rule(week: Week) -> None:
    """A16: the week's quarantine has one row of each kind, and the clean day has none."""
    report = week.report
    columns = [name for name in SOURCE_FIELDS if name != "tenant_id"]
    found = [
        parse_sale(dict(zip(columns, row, strict=True)), RULES, day_window(day, ZoneInfo("UTC")))
        for day in WEEK
        for row in week.connection.execute(
            f"SELECT {', '.join(columns)} FROM sales WHERE sold_at >= %s AND sold_at < %s",  # noqa: S608 - our names
            [day, day + timedelta(days=1)],
        )
    ]
    rejected = Counter(row.code for row in found if isinstance(row, Rejection))
    assert rejected == {
        "PRICE_MISSING": 1,
        "PRICE_NOT_POSITIVE": 1,
        "PRICE_INVALID": 1,
        "FIELD_MISSING": 2,
        "CURRENCY_UNKNOWN": 1,
    }
    assert rejected.total() == report.bad_rows == len([kind for kind in SPOILT if kind])
    assert len({row.sale_id for row in found if isinstance(row, Sale)}) == report.sales - report.bad_rows


def test_every_good_image_url_names_a_file_that_is_there(week: Week) -> None:
    report = week.report
    urls = [url.removeprefix(BASE) for (url,) in week.connection.execute("SELECT image_url FROM sales")]
    bad = [url.split("/")[2] for url in urls if url.startswith("/fault/")]
    assert len(bad) == report.bad_images
    assert 0.01 <= len(bad) / len(urls) <= 0.04
    assert set(bad) <= set(BAD_IMAGES)
    assert len(set(bad)) >= 5
    assert all((week.images / url.lstrip("/")).is_file() for url in urls if not url.startswith("/fault/"))
    assert not list(week.images.rglob("*.unfinished"))


def test_every_bad_image_is_a_fault_that_the_image_host_knows() -> None:
    assert all(fault_named(kind) for kind in BAD_IMAGES)


def test_some_products_are_sold_twice_and_some_share_a_picture() -> None:
    sales = [sale for day in WEEK for sale in sales_of_day(day, 150, 7)]
    by_product = Counter(sale.product.product_id for sale in sales)
    products_by_picture: dict[str, set[str]] = {}
    for sale in sales:
        products_by_picture.setdefault(sale.product.picture, set()).add(sale.product.product_id)
    assert 5 <= sum(count > 1 for count in by_product.values()) <= 50
    assert any(len(products) > 1 for products in products_by_picture.values())


def test_pictures_of_different_products_differ() -> None:
    shirts = [product for n in range(300) if (product := product_of(WEEK[0], n, 7)).category == "shirt"]
    alike = Counter(product.draw() for product in shirts if not product.picture.startswith("stock"))
    assert len(shirts) > 20
    assert max(alike.values()) == 1


def test_days_follow_the_week_and_prices_follow_category_brand_condition_and_season() -> None:
    year = days_between(date(2025, 1, 1), date(2025, 12, 31))
    per_day = {day: sum(1 for _ in sales_of_day(day, 150, 7)) for day in year[:84]}
    by_weekday = [statistics.mean(n for day, n in per_day.items() if day.weekday() == weekday) for weekday in range(7)]
    assert by_weekday[5] > by_weekday[0] * 1.15
    assert 140 < statistics.mean(per_day.values()) < 160

    products = [(day, product_of(day, number, 7)) for day in year for number in range(30)]

    def middle(**wanted: str) -> float:
        return statistics.median(
            float(product.price)
            for _, product in products
            if all(getattr(product, name) == value for name, value in wanted.items())
        )

    assert middle(category="bag") > 2 * middle(category="scarf")
    assert middle(brand="Nordlys") > 3 * middle(brand="Vester")
    assert middle(condition="new") > 2 * middle(condition="poor")
    winter = [float(p.price) for day, p in products if p.category == "jacket" and day.month in (12, 1, 2)]
    summer = [float(p.price) for day, p in products if p.category == "jacket" and day.month in (6, 7, 8)]
    assert statistics.median(winter) > 1.2 * statistics.median(summer)
