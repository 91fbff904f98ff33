"""One table of sales in each kind of source, to be filled anew and read through the port."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from salesintel_dagster.adapters.rest_sales import RestSource
from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.rest_source import RestMapping
from salesintel_dagster.domain.sale import SourceRow
from salesintel_dagster.domain.source import SourceMapping
from salesintel_dagster_tests.fakes.sales_api import SalesApi
from salesintel_dagster_tests.fakes.source import TENANT
from salesintel_dagster_tests.mariadb import MariaDb

MAPPED = {"tenants": frozenset({TENANT}), "columns": {"recorded_at": "recorded_at"}}
COLUMNS = (
    "sale_id",
    "product_id",
    "tenant_id",
    "category",
    "brand",
    "condition",
    "sold_price",
    "currency",
    "sold_at",
    "image_url",
    "recorded_at",
)


class PostgresShop:
    """A table `sales` with our own column names, and one more that nobody maps."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = connection_from_dsn(dsn)

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def fill(self, rows: Sequence[SourceRow], price: str = "numeric", instant: str = "timestamptz") -> SaleSource:
        """Make the table anew with these rows, in this order."""
        texts = ", ".join(f"{name} text" for name in COLUMNS if name not in {"sold_price", "sold_at", "recorded_at"})
        self.run(
            "DROP TABLE IF EXISTS sales",
            f"CREATE TABLE sales ({texts}, sold_price {price}, sold_at {instant}, recorded_at timestamptz, note text)",
        )
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            for row in rows:
                names = sql.SQL(", ").join(map(sql.Identifier, row))
                places = sql.SQL(", ").join([sql.Placeholder()] * len(row))
                cursor.execute(sql.SQL("INSERT INTO sales ({}) VALUES ({})").format(names, places), list(row.values()))
        return self.source()

    def source(self, **mapping: object) -> SmartGoSource:
        return SmartGoSource(self.connection, SourceMapping(**{**MAPPED, **mapping}), "EUR")


class MySqlShop:
    """The same table in MariaDB or MySQL; instants are timestamps, as local times they would need a zone."""

    def __init__(self, server: MariaDb) -> None:
        self.server = server
        self.connection = server.new_database()

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.server.run(self.connection, statement)

    def fill(
        self, rows: Sequence[SourceRow], price: str = "decimal(41,2)", instant: str = "timestamp(6) NULL"
    ) -> SaleSource:
        """Make the table anew with these rows, in this order."""
        texts = [name for name in COLUMNS if name not in {"sold_price", "sold_at", "recorded_at"}]
        declared = ", ".join(f"`{name}` varchar(200) CHARACTER SET utf8mb4" for name in texts)
        self.run(
            "DROP TABLE IF EXISTS sales",
            f"CREATE TABLE sales ({declared}, sold_price {price}, sold_at {instant},"
            " recorded_at timestamp(6) NULL, note text) ENGINE=InnoDB",
        )
        names = ", ".join(f"`{name}`" for name in COLUMNS)
        places = ", ".join(["%s"] * len(COLUMNS))
        values = [[_naive(row.get(name)) for name in COLUMNS] for row in rows]
        if values:
            self.server.run(self.connection, f"INSERT INTO sales ({names}) VALUES ({places})", values)  # noqa: S608 - ours
        return self.source()

    def source(self, **mapping: object) -> SaleSource:
        from salesintel_dagster.adapters.mysql import MySqlSource  # noqa: PLC0415 - an optional extra

        return MySqlSource(self.connection, SourceMapping(**{**MAPPED, **mapping}), "EUR")


class ApiShop:
    """The same rows behind an HTTP API, in pages and in the order in which they were put there."""

    def __init__(self, api: SalesApi) -> None:
        self.api = api

    def fill(self, rows: Sequence[SourceRow]) -> SaleSource:
        self.api.fill(rows)
        return self.source()

    def source(self, clock: Clock = SYSTEM_CLOCK, **parameters: Any) -> RestSource:  # noqa: ANN401 - any field
        return RestSource(self.api.parameters(**parameters), RestMapping(**MAPPED), "EUR", clock)


def _naive(value: object) -> object:
    aware = isinstance(value, datetime) and value.tzinfo is not None
    return value.astimezone(UTC).replace(tzinfo=None) if aware else value  # type: ignore[union-attr]
