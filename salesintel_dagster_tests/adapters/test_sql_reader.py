from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, NestedField

from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.adapters.sql_reader import query
from salesintel_dagster.adapters.table_layout import NAMESPACE
from salesintel_dagster.domain.errors import QueryRefused
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import day_scope, sale_rows
from salesintel_dagster_tests.lakes import KINDS, RUN, SALES, file_paths, local_catalog, rows

COUNT_WHERE = "SELECT count(sale_id) AS n FROM smartgo_sales WHERE "
DAYS = ("2026-10-31", "2026-11-01", "2026-11-02", "2026-12-01")
AVERAGE_PRICE = """
SELECT category, avg(sold_price) AS average, count(*) AS sales
FROM s3.pricing_intelligence.smartgo_sales
WHERE year = 2026 AND month = 11
GROUP BY category ORDER BY category
"""


def fill(catalog: Catalog) -> None:
    table = IcebergSalesTable(lambda: catalog, held_clock())
    for number, day in enumerate(DAYS, start=1):
        scope = day_scope(day, "a", "b")
        table.replace_day(scope, rows(sale_rows(scope, 6, price=Decimal(10 * number))), RUN, allow_empty=False)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = local_catalog(tmp_path)
    fill(opened)
    yield opened
    opened.close()


def answer(catalog: Catalog, sql: str) -> list[dict[str, object]]:
    return query(catalog, sql).read_all().to_pylist()


def remove_files_of(catalog: Catalog, *days: str) -> None:
    for day in days:
        for path in file_paths(catalog, day):
            Path(path.removeprefix("file://")).unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_price_query_runs_on_every_catalog(request: pytest.FixtureRequest, kind: str) -> None:
    """D15"""
    opened = KINDS[kind](request)
    fill(opened)
    expected = [{"category": name, "average": 25.0, "sales": 4} for name in ("bags", "coats", "shoes")]
    assert answer(opened, AVERAGE_PRICE) == expected
    opened.close()


@pytest.mark.parametrize(
    "name",
    [
        "s3.pricing_intelligence.smartgo_sales",
        "pricing_intelligence.smartgo_sales",
        "smartgo_sales",
        '"s3"."pricing_intelligence"."smartgo_sales"',
        "S3.Pricing_Intelligence.SmartGo_Sales",
    ],
)
def test_a_table_answers_to_its_long_and_short_names(catalog: Catalog, name: str) -> None:
    assert answer(catalog, f"FROM {name} SELECT count(*) AS n") == [{"n": 24}]


@pytest.mark.parametrize(
    "where",
    [
        "year = 2026 AND month = 11",
        "month IN (11)",
        "sold_date BETWEEN DATE '2026-11-01' AND DATE '2026-11-30'",
        "sold_date >= '2026-11-01' AND sold_date < '2026-12-01'",
        "year = 2026 AND month = 11 AND category IS NOT NULL",
    ],
)
def test_files_of_other_months_are_not_opened(catalog: Catalog, where: str) -> None:
    remove_files_of(catalog, "2026-10-31", "2026-12-01")
    assert answer(catalog, COUNT_WHERE + where) == [{"n": 12}]


def test_a_day_opens_only_its_own_file(catalog: Catalog) -> None:
    remove_files_of(catalog, "2026-10-31", "2026-11-02", "2026-12-01")
    where = "sold_date = '2026-11-01' AND tenant_id = 'a'"
    assert answer(catalog, COUNT_WHERE + where) == [{"n": 3}]


def test_a_file_that_is_gone_is_told_in_a_sentence(catalog: Catalog) -> None:
    remove_files_of(catalog, "2026-10-31")
    with pytest.raises(QueryRefused, match="Failed to open"):
        answer(catalog, "SELECT sum(sold_price) FROM smartgo_sales")


def test_every_table_of_the_namespace_can_be_asked(catalog: Catalog) -> None:
    catalog.create_table((NAMESPACE, "sales_history"), Schema(NestedField(1, "year", IntegerType(), required=True)))
    joined = "SELECT count(*) AS n FROM smartgo_sales JOIN s3.pricing_intelligence.sales_history USING (year)"
    assert answer(catalog, joined) == [{"n": 0}]
    assert {row["name"] for row in answer(catalog, "SHOW TABLES")} >= {"smartgo_sales", "sales_history"}


def test_a_vector_comes_back_as_floats(catalog: Catalog) -> None:
    found = answer(catalog, "SELECT embedding_vector AS v FROM smartgo_sales LIMIT 1")
    assert len(found[0]["v"]) == 4


def test_instants_are_utc(catalog: Catalog) -> None:
    found = answer(catalog, "SELECT DISTINCT sold_at::VARCHAR AS t FROM smartgo_sales WHERE sold_date = '2026-11-01'")
    assert found == [{"t": "2026-11-01 12:00:00+00"}]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM smartgo_sales",
        "INSERT INTO smartgo_sales SELECT * FROM smartgo_sales",
        "CREATE TABLE x AS SELECT 1",
        "COPY smartgo_sales TO '/tmp/leak.csv'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW smartgo_sales",
        "ATTACH '/tmp/other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(catalog: Catalog, sql: str) -> None:
    with pytest.raises(QueryRefused, match="expected one SELECT"):
        query(catalog, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "SELECT * FROM catalog",
        "SELECT * FROM DAYS",
    ],
)
def test_files_network_and_variables_are_out_of_reach(catalog: Catalog, sql: str) -> None:
    with pytest.raises(QueryRefused, match="the query does not run"):
        answer(catalog, sql)


@pytest.mark.parametrize(
    "sql,told",
    [
        ("SELEC 1", "syntax error"),
        ("SELECT prise FROM smartgo_sales", "prise"),
        ("SELECT * FROM smartgo_sale", "smartgo_sale does not exist"),
        ("SELECT product_id, avg(sold_price) FROM smartgo_sales GROUP BY category", "product_id"),
        ("SELECT CAST(category AS INT) FROM smartgo_sales", "Could not convert"),
    ],
)
def test_sql_that_does_not_run_is_told_in_one_line(catalog: Catalog, sql: str, told: str) -> None:
    with pytest.raises(QueryRefused, match=told) as refused:
        answer(catalog, sql)
    assert "\n" not in str(refused.value)


def test_before_the_first_export_there_is_nothing_to_ask(tmp_path: Path) -> None:
    opened = local_catalog(tmp_path)
    with pytest.raises(QueryRefused, match="the first export makes it"):
        query(opened, "SELECT 1 FROM smartgo_sales")
    opened.close()


def test_what_is_read_stays_one_snapshot(catalog: Catalog) -> None:
    reader = query(catalog, "SELECT sale_id FROM smartgo_sales")
    scope = day_scope("2026-11-02", "a", "b")
    table = IcebergSalesTable(lambda: catalog, held_clock())
    table.replace_day(scope, rows(), RUN, allow_empty=True)
    assert reader.read_all().num_rows == 24
    assert catalog.load_table(SALES).scan().count() == 18
