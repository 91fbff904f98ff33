from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from salesintel_dagster.adapters.aws import AwsTarget
from salesintel_dagster.adapters.catalogs import CONNECT_TIMEOUT_SECONDS, StorageAccess, open_catalog
from salesintel_dagster.adapters.lakehouse import IcebergSalesTable
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import TableUnavailable
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster_tests.fakes.clocks import held_clock
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import DAY, RUN, access_to, rows

ONCE = RetryPolicy(retries=0)
PASSWORD = "canary-password"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def sql_table(port: int, query: str = "") -> IcebergSalesTable:
    uri = f"postgresql://someone:{PASSWORD}@127.0.0.1:{port}/catalog{query}"
    access = StorageAccess()
    return IcebergSalesTable(
        lambda: open_catalog("sql", uri=uri, warehouse="file:///nowhere", access=access), SYSTEM_CLOCK, retry=ONCE
    )


def test_a_database_that_refuses_is_told_at_once_without_its_password(closed_port: int) -> None:
    with pytest.raises(TableUnavailable, match="out of reach") as down:
        sql_table(closed_port).day_facts(DAY)
    assert "refused" in str(down.value)
    assert PASSWORD not in str(down.value)


def test_a_database_that_says_nothing_is_given_up(silent_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(TableUnavailable):
        sql_table(silent_port, "?connect_timeout=2").day_facts(DAY)
    assert time.monotonic() - started < CONNECT_TIMEOUT_SECONDS


@pytest.mark.parametrize("kind", ["glue", "rest"])
def test_an_aws_catalog_that_refuses_is_told_without_its_key(kind: str, closed_port: int) -> None:
    access = StorageAccess("eu-west-1", f"http://127.0.0.1:{closed_port}", "1" * 12, PASSWORD)

    def connect() -> object:
        uri = f"{access.endpoint_url}/iceberg"
        return open_catalog(kind, uri=uri, warehouse="s3://nowhere/x", access=access, signing_name="s3tables")

    with pytest.raises(TableUnavailable, match="out of reach") as down:
        IcebergSalesTable(connect, held_clock(), retry=ONCE).day_facts(DAY)
    assert PASSWORD not in str(down.value)
    assert PASSWORD not in repr(access)


def test_a_rest_catalog_that_says_nothing_is_given_up(silent_port: int) -> None:
    uri = f"http://127.0.0.1:{silent_port}"
    table = IcebergSalesTable(
        lambda: open_catalog("rest", uri=uri, warehouse="x", access=StorageAccess(request_timeout_seconds=0.2)),
        SYSTEM_CLOCK,
        retry=ONCE,
    )
    with pytest.raises(TableUnavailable, match="timed out"):
        table.day_facts(DAY)


def test_a_bucket_that_is_not_there_is_told(aws_target: AwsTarget) -> None:
    access = access_to(aws_target)
    table = IcebergSalesTable(
        lambda: open_catalog("glue", uri=None, warehouse="s3://no-such-bucket-here/x", access=access),
        held_clock(),
        retry=ONCE,
    )
    with pytest.raises(TableUnavailable, match="out of reach"):
        table.replace_day(DAY, rows(sale_rows(DAY, 1)), RUN, allow_empty=False)
