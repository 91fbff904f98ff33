"""A13, A14: a Postgres that refuses, drops, stalls or drips, and one that changes while it is read."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from socket import create_server
from zoneinfo import ZoneInfo

import psycopg
import pytest

from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import SourceUnavailable
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.source import SourceMapping
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.run import SALES_RAW
from salesintel_dagster.flows.export.sales_raw import SalesRead, read_sales
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import TENANT
from salesintel_dagster_tests.services import PostgresService
from salesintel_dagster_tests.wires import Fault, Wire, wire

DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, ZoneInfo("UTC"))
ROWS = 2 * BATCH_ROWS + 7
MAPPING = SourceMapping(tenant=TENANT)
MID_RESULT = 60_000
"""Bytes that the server says before the second block of rows has come."""
DEADLINE = 1.5
RETRY = RetryPolicy(retries=3, base_seconds=0.05, deadline_seconds=DEADLINE)
PATIENT = replace(RETRY, deadline_seconds=30)
FILL = (
    "CREATE TABLE sales AS SELECT 'S-' || n AS sale_id, 'P-' || n AS product_id, 'shoes' AS category,"
    " 'Acme' AS brand, 'good' AS condition, 19.9::numeric AS sold_price, 'EUR' AS currency,"
    " timestamptz '2026-11-03 00:00Z' + n * interval '1 s' AS sold_at, 'https://images.example/' || n AS image_url"
    " FROM generate_series(1, {rows}) AS n"
)


class WiredShop:
    """A source of ROWS sales behind a wire, and the store into which its day is read."""

    def __init__(self, dsn: str, line: Wire) -> None:
        self.dsn = dsn
        self.wire = line
        self.store = InMemoryObjectStore()
        direct = connection_from_dsn(dsn)
        self.connection = replace(direct, port=line.port, connect_timeout_seconds=2, statement_timeout_seconds=1)

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @property
    def source(self) -> SmartGoSource:
        return SmartGoSource(self.connection, MAPPING, "EUR")

    @property
    def staged(self) -> StagedDays:
        return StagedDays(self.store, "smartgo")

    def read(self, retry: RetryPolicy = RETRY) -> SalesRead:
        run, table = export_run(DAY).run, InMemorySalesTable()
        quarantine = Quarantine(self.store, "smartgo")
        return read_sales(run, self.source, self.staged, quarantine, table, allow_empty=False, retry=retry)

    def prices(self) -> list[object]:
        with self.staged.batches(SALES_RAW, DAY) as batches:
            return [price for batch in batches for price in batch["sold_price"].to_pylist()]


@pytest.fixture
def shop(postgres: PostgresService) -> Iterator[WiredShop]:
    dsn = postgres.new_database()
    with wire(connection_from_dsn(dsn).port) as line:
        opened = WiredShop(dsn, line)
        opened.run(FILL.format(rows=ROWS))
        yield opened


FAULTS = {
    "hangs up": Fault("cut"),
    "drops in mid result": Fault("cut", MID_RESULT),
    "stalls at the door": Fault("stall"),
    "stalls in mid result": Fault("stall", MID_RESULT),
    "drips in mid result": Fault("drip", MID_RESULT),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_server_that_fails_for_good_is_given_up_within_the_deadline_and_leaves_the_day_as_it_was(
    shop: WiredShop, fault: Fault
):
    """A13."""
    shop.read(PATIENT)
    before = dict(shop.store.objects)
    shop.run("UPDATE sales SET sold_price = 5")
    shop.wire.faults += [fault] * 10
    began = time.monotonic()
    with pytest.raises(SourceUnavailable) as caught:
        shop.read()
    assert time.monotonic() - began <= DEADLINE + 2
    assert shop.wire.connections > 2 or fault.kind != "cut", "it was not tried again"
    assert shop.store.objects == before
    assert shop.connection.password not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("fault", ["hangs up", "drops in mid result", "stalls in mid result"])
def test_a_server_that_fails_once_is_read_again_and_the_day_is_whole(shop: WiredShop, fault: str):
    """A13."""
    shop.wire.faults.append(FAULTS[fault])
    result = shop.read(PATIENT)
    assert (result.read, result.rows) == (ROWS, ROWS)
    assert shop.prices() == [Decimal("19.90")] * ROWS
    assert shop.wire.connections >= 2


@pytest.mark.parametrize("fault", ["stalls at the door", "stalls in mid result"])
def test_a_server_that_stalls_is_waited_for_no_longer_than_the_deadline(shop: WiredShop, fault: str):
    """A13: however long the source lets us wait for a connection or a statement; 10 and 300 s if it says nothing."""
    shop.connection = replace(shop.connection, connect_timeout_seconds=30, statement_timeout_seconds=30)
    shop.wire.faults.append(FAULTS[fault])
    began = time.monotonic()
    with pytest.raises(SourceUnavailable), shop.source.read(WINDOW, 1) as day:
        assert sum(len(block) for block in day.rows) < ROWS
    assert time.monotonic() - began <= 1 + 2


def test_a_server_that_is_not_there_is_asked_again_and_given_up():
    """A13."""
    with closing(create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    connection = connection_from_dsn(f"postgresql://u:pw-canary@127.0.0.1:{port}/db")
    store, run = InMemoryObjectStore(), export_run(DAY)
    with pytest.raises(SourceUnavailable, match="connection refused"):
        read_sales(
            run.run,
            SmartGoSource(connection, MAPPING, "EUR"),
            StagedDays(store, "smartgo"),
            Quarantine(store, "smartgo"),
            InMemorySalesTable(),
            allow_empty=False,
            retry=replace(RETRY, deadline_seconds=1.0),
        )
    assert [line.split(" ")[1:4] for line in run.said] == [["Source", "unavailable,", "reading"]] * 3
    assert store.objects == {}


def test_a_fingerprint_is_given_up_like_a_reading(shop: WiredShop):
    """A13."""
    shop.wire.faults.append(Fault("stall", 1_000))
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"not read within 1 s|no answer for"):
        shop.source.fingerprint(WINDOW, 1.0)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("moment", [b"DECLARE", b"FETCH"])
def test_a_second_connections_changes_between_two_statements_are_not_seen(shop: WiredShop, moment: bytes):
    """A14: the sum over the day and each fetch of its rows see one snapshot."""
    expected = shop.source.fingerprint(WINDOW)
    changes = iter(["UPDATE sales SET sold_price = 2", "DELETE FROM sales WHERE sale_id < 'S-2'"])

    def change(piece: bytes) -> None:
        if moment in piece and (statement := next(changes, None)) is not None:
            shop.run(statement)

    shop.wire.before_passing = change
    with shop.source.read(WINDOW) as day:
        rows = [row for block in day.rows for row in block]
    assert day.fingerprint == expected
    assert day.evidence["isolation"] == "repeatable read, read only on"
    assert len(rows) == ROWS
    assert {row["sold_price"] for row in rows} == {Decimal("19.9")}
    assert shop.source.fingerprint(WINDOW) != expected


def test_the_instants_of_a_wired_reading_are_those_of_the_table(shop: WiredShop):
    with shop.source.read(WINDOW) as day:
        first = next(day.rows)[0]
    assert first["sold_at"] == datetime(2026, 11, 3, tzinfo=UTC) + timedelta(seconds=1)
