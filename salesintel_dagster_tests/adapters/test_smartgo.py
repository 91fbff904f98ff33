from __future__ import annotations

import random
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql

from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.calendar import day_window, days_between
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import (
    SalesIntelError,
    SettingInvalid,
    SourceError,
    SourceMappingInvalid,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.local_time import instant_of
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.sale import SOURCE_FIELDS, SourceRow
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.sales_raw import read_sales
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import TENANT, sale_row
from salesintel_dagster_tests.services import PostgresService

UTC_ZONE = ZoneInfo("UTC")
DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, UTC_ZONE)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
TENANTS = frozenset({TENANT})
TABLE = """
CREATE TABLE sales (
    sale_id text, product_id text, tenant_id text, category text, brand text, condition text,
    sold_price numeric, currency text, sold_at timestamptz, image_url text, recorded_at timestamptz
)
"""


class Shop:
    """One database of a source, to be filled and asked."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = connection_from_dsn(dsn)

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def insert(self, *rows: SourceRow) -> None:
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            for row in rows:
                columns = sql.SQL(", ").join(map(sql.Identifier, row))
                places = sql.SQL(", ").join([sql.Placeholder()] * len(row))
                insert = sql.SQL("INSERT INTO sales ({}) VALUES ({})").format(columns, places)
                cursor.execute(insert, list(row.values()))

    def source(self, **mapping: object) -> SmartGoSource:
        words = {"tenants": TENANTS} | mapping
        return SmartGoSource(self.connection, SourceMapping(**words), "EUR")


@pytest.fixture
def shop(postgres: PostgresService) -> Shop:
    """An empty table `sales` with our own column names."""
    opened = Shop(postgres.new_database())
    opened.run(TABLE)
    return opened


def _rows(source: SaleSource, day: date = DAY, zone: str = "UTC") -> list[SourceRow]:
    with source.read(day_window(day, ZoneInfo(zone))) as found:
        return [row for block in found.rows for row in block]


def _ids(source: SaleSource, day: date = DAY, zone: str = "UTC") -> list[object]:
    return [row["sale_id"] for row in _rows(source, day, zone)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vilnius", "Pacific/Auckland"])
def test_neither_the_servers_nor_the_sessions_zone_moves_a_sale(shop: Shop, zone: str):
    """A3: 400 random instants around the change of the clocks, server and role in Auckland with German dates."""
    changing = {"Europe/Vilnius": date(2026, 10, 25), "Pacific/Auckland": date(2026, 9, 27)}.get(zone, DAY)
    chance = random.Random(zone)
    noon = datetime(changing.year, changing.month, changing.day, 12, tzinfo=ZoneInfo(zone))
    instants = [noon + timedelta(microseconds=chance.randint(-(10**11), 10**11)) for _ in range(400)]
    shop.insert(*(sale_row(instant, number) for number, instant in enumerate(instants)))
    days = days_between(changing - timedelta(days=2), changing + timedelta(days=2))
    before = {day: _rows(shop.source(), day, zone) for day in days}
    name = shop.connection.database
    shop.run(
        f"ALTER DATABASE {name} SET TimeZone = 'Pacific/Auckland'",
        f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'",
        f"ALTER DATABASE {name} SET extra_float_digits = -15",
    )
    assert {day: _rows(shop.source(), day, zone) for day in days} == before
    at_noon = shop.source(table=None, query="SELECT * FROM sales WHERE extract(hour FROM sold_at) = 12")
    assert {row["sold_at"].astimezone(UTC).hour for day in days for row in _rows(at_noon, day, zone)} == {12}
    found = [(day, row) for day, rows in before.items() for row in rows]
    assert sorted(row["sale_id"] for _, row in found) == [f"S-{number:06d}" for number in range(400)]
    assert all(row["sold_at"].astimezone(ZoneInfo(zone)).date() == day for day, row in found)


def test_a_column_of_local_time_is_read_in_its_zone_also_on_the_days_when_the_clocks_change(shop: Shop):
    """A3: each row lies in exactly one day; the doubled hour is read as its second occurrence."""
    zone = "Europe/Vilnius"
    shop.run("ALTER TABLE sales ALTER sold_at TYPE timestamp USING NULL", "CREATE INDEX ON sales (sold_at)")
    first = datetime(2026, 10, 24)  # noqa: DTZ001 - the column stores local time
    shop.insert(*(sale_row(first + timedelta(minutes=20 * n), n) for n in range(3 * 24 * 3)))
    for column_zone, partition_zone in ((zone, zone), (zone, "UTC"), ("UTC", "Pacific/Auckland")):
        source = shop.source(sold_at_zone=column_zone)
        days = days_between(date(2026, 10, 22), date(2026, 10, 28))
        found = [sale for day in days for sale in _ids(source, day, partition_zone)]
        assert sorted(map(str, found)) == [f"S-{n:06d}" for n in range(3 * 24 * 3)]
    doubled = [
        row for row in _rows(shop.source(sold_at_zone=zone), date(2026, 10, 25), zone) if row["sale_id"] == "S-000082"
    ]
    assert [row["sold_at"] for row in doubled] == [datetime(2026, 10, 25, 1, 20, tzinfo=UTC)]


def test_a_query_with_percent_signs_and_comments_is_a_source(shop: Shop):
    shop.insert(sale_row(NOON, 1), sale_row(NOON, 2, category="bags"))
    source = shop.source(table=None, query="SELECT *, '100%' AS share FROM sales WHERE category LIKE 'sho%' -- ours")
    assert _ids(source) == ["S-000001"]


def test_columns_are_mapped_even_when_their_names_are_keywords_or_have_capitals(shop: Shop):
    shop.run(
        'CREATE SCHEMA "Shop"',
        'CREATE TABLE "Shop"."order" AS SELECT sale_id AS "user", sold_price AS "Select", '
        "product_id, category, sold_at FROM sales",
    )
    shop.run("INSERT INTO \"Shop\".\"order\" VALUES ('S-1', 5, 'P-1', 'bags', '2026-11-03 12:00Z')")
    columns = {"sale_id": "user", "sold_price": "Select", "brand": None, "condition": None, "currency": None}
    source = shop.source(table="Shop.order", columns={**columns, "image_url": None}, tenant=TENANT)
    assert _rows(source) == [
        {"sale_id": "S-1", "product_id": "P-1", "category": "bags", "sold_price": Decimal(5), "sold_at": NOON}
    ]


@pytest.mark.parametrize(
    "kind,literal,expected",
    [
        ("numeric(39)", "'1'||repeat('0', 38)", Decimal("1E+38")),
        ("numeric", "'NaN'", "NaN"),
        ("real", "'19.99'", "19.99"),
        ("double precision", "'19.99'", 19.99),
        ("integer", "'20'", 20),
        ("text", "'19.99'", "19.99"),
    ],
)
def test_a_price_arrives_exactly_as_it_is_stored(shop: Shop, kind: str, literal: str, expected: object):
    """A16."""
    shop.insert(sale_row(NOON, sold_price=None))
    shop.run(f"ALTER TABLE sales ALTER sold_price TYPE {kind} USING ({literal})::{kind}")
    [row] = _rows(shop.source())
    assert str(row["sold_price"]) == "NaN" if expected == "NaN" else row["sold_price"] == expected


def test_ids_of_any_type_arrive_as_text(shop: Shop):
    shop.run("CREATE TYPE kind AS ENUM ('shoes')", "CREATE DOMAIN code AS integer")
    shop.run("ALTER TABLE sales ALTER sale_id TYPE uuid USING NULL, ALTER product_id TYPE code USING NULL")
    shop.run("ALTER TABLE sales ALTER category TYPE kind USING NULL")
    shop.insert(sale_row(NOON, sale_id="12345678-1234-5678-1234-567812345678", product_id=42))
    [row] = _rows(shop.source())
    assert (row["sale_id"], row["product_id"], row["category"]) == (
        "12345678-1234-5678-1234-567812345678",
        "42",
        "shoes",
    )


@pytest.mark.parametrize(
    "change,said",
    [
        (
            "ALTER TABLE sales RENAME sold_price TO amount",
            "no column sold_price; wanted: .*sold_price.*; found: .*amount",
        ),
        ("ALTER TABLE sales DROP brand, DROP sold_at", "no column brand, sold_at"),
        ("ALTER TABLE sales ALTER sold_at TYPE date", "column sold_at is date, expected timestamptz"),
        ("ALTER TABLE sales ALTER sold_at TYPE timestamp", "without time zone; name its zone in sold_at_zone"),
        ("ALTER TABLE sales ALTER sold_price TYPE bytea USING NULL", "column sold_price is bytea, expected numeric"),
        ("DROP TABLE sales", "no table sales for this user"),
    ],
)
def test_a_changed_table_is_a_clear_error_before_any_row(shop: Shop, change: str, said: str):
    """A18."""
    shop.insert(sale_row(NOON))
    shop.run(change)
    with pytest.raises(SourceSchemaMismatch, match=said), shop.source().read(WINDOW):
        pytest.fail("the reading began")


def test_a_query_without_a_wanted_column_or_with_two_of_them_is_a_clear_error(shop: Shop):
    """A18."""
    for query, said in (
        ("SELECT sale_id FROM sales", "no column product_id"),
        ("SELECT *, sale_id FROM sales", "more than one column sale_id"),
    ):
        source = shop.source(table=None, query=query)
        with pytest.raises(SourceSchemaMismatch, match=said), source.read(WINDOW):
            pytest.fail("the reading began")


def test_a_zone_for_a_column_that_stores_its_own_is_refused(shop: Shop):
    """A18."""
    source = shop.source(sold_at_zone="Europe/Vilnius")
    with pytest.raises(SourceSchemaMismatch, match="stores its time zone itself"), source.read(WINDOW):
        pytest.fail("the reading began")


def test_extra_columns_are_ignored_and_not_even_asked_for(shop: Shop):
    """A18: a user who may read the mapped columns only can read the day."""
    shop.run("ALTER TABLE sales ADD card_number text DEFAULT '4111'")
    shop.insert(sale_row(NOON))
    name = f"reader_{shop.connection.database}"
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD 'pw-of-a-reader'")
    reader = replace(shop.connection, username=name, password="pw-of-a-reader")
    with pytest.raises(SourceUnavailable, match="may not open the database"):
        _rows(SmartGoSource(reader, SourceMapping(tenants=TENANTS), "EUR"))
    shop.run(
        f"GRANT CONNECT ON DATABASE {shop.connection.database} TO {name}",
        f"GRANT SELECT ({', '.join(SOURCE_FIELDS)}) ON sales TO {name}",
    )
    [row] = _rows(SmartGoSource(reader, SourceMapping(tenants=TENANTS), "EUR"))
    assert "card_number" not in row
    shop.run(f"REVOKE ALL ON sales FROM {name}")
    with pytest.raises(SourceSchemaMismatch, match="may not read"):
        _rows(SmartGoSource(reader, SourceMapping(tenants=TENANTS), "EUR"))


def test_the_evidence_tells_how_the_day_was_asked_for_and_no_secret(shop: Shop):
    """A12."""
    shop.insert(sale_row(NOON + timedelta(days=1)))
    with shop.source().read(WINDOW) as found:
        assert list(found.rows) == []
    evidence = found.evidence
    assert '"source"."sold_at" >= %(start)s AND "source"."sold_at" < %(end)s' in evidence["sql"]
    assert 'ORDER BY "source"."sold_at" NULLS LAST, "source"."sale_id" COLLATE "C" NULLS LAST' in evidence["sql"]
    assert evidence["window"] == "[2026-11-03T00:00:00.000000+00:00, 2026-11-04T00:00:00.000000+00:00)"
    assert evidence["isolation"] == "repeatable read, read only on"
    assert evidence["session_time_zone"] == "UTC"
    assert evidence["source"] == shop.connection.place
    assert evidence["snapshot"]
    assert evidence["server_version"]
    assert shop.connection.password not in repr(evidence)
    assert shop.connection.username not in repr(evidence)


def test_rows_that_change_while_they_are_read_belong_to_one_snapshot(shop: Shop):
    shop.run(
        "INSERT INTO sales (sale_id, sold_price, sold_at) "
        "SELECT 'S-'||n, 1, '2026-11-03 12:00Z' FROM generate_series(1, 6000) n"
    )
    with shop.source().read(WINDOW) as found:
        next(found.rows)
        shop.run("UPDATE sales SET sold_price = 2", "DELETE FROM sales WHERE sale_id < 'S-2'")
        rest = [row for block in found.rows for row in block]
    assert len(rest) == 6000 - BATCH_ROWS
    assert {row["sold_price"] for row in rest} == {Decimal(1)}


@pytest.mark.parametrize(
    "query,kind,said",
    [
        ("SELECT * FROM sales WHERE pg_sleep(5) IS NOT NULL", SourceUnavailable, "statement timeout"),
        ("SELECT * FROM sales WHERE setval('numbers', 7) > 0", SourceMappingInvalid, "only reads"),
        ("SELECT 1) AS x, (SELECT 2", SourceSchemaMismatch, "no column"),
        ("WITH gone AS (DELETE FROM sales RETURNING *) SELECT * FROM gone", SourceMappingInvalid, "does not "),
        ("SELECT * FROM nowhere", SourceSchemaMismatch, "a table is missing"),
        ("SELECT 'canary-value'::int AS sale_id", SourceSchemaMismatch, "cannot be read as its type"),
        ("SELECT * FROM", SourceMappingInvalid, "does not accept"),
    ],
)
def test_a_query_that_stalls_writes_or_fails_is_one_error_without_a_rows_content(
    shop: Shop, query: str, kind: type[SourceError], said: str
):
    """A24: what slips past the mapping's rules meets a read-only session."""
    shop.run("CREATE SEQUENCE numbers")
    shop.insert(sale_row(NOON))
    hasty = replace(shop.connection, statement_timeout_seconds=1)
    source = SmartGoSource(hasty, SourceMapping(table=None, query=query, tenants=TENANTS), "EUR")
    with pytest.raises(kind, match=said) as caught:
        _rows(source)
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert _ids(shop.source()) == ["S-000001"]


def test_a_value_that_breaks_the_query_in_mid_result_is_our_error_without_the_value(shop: Shop):
    rows = [sale_row(WINDOW.start + timedelta(seconds=n), n, brand="7") for n in range(BATCH_ROWS + 5)]
    shop.insert(*rows, sale_row(NOON, 9_999, brand="canary-value"))
    source = shop.source(table=None, query="SELECT *, brand::int AS code FROM sales", columns={"brand": "code"})
    with pytest.raises(SourceSchemaMismatch, match="cannot be read as its type") as caught:
        _rows(source)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_connection_that_the_server_ends_is_unavailable(shop: Shop):
    shop.insert(*(sale_row(WINDOW.start + timedelta(seconds=n), n) for n in range(BATCH_ROWS + 5)))
    with shop.source().read(WINDOW) as found:
        next(found.rows)
        shop.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'salesintel'")
        with pytest.raises(SourceUnavailable):
            next(found.rows)


def test_no_connection_stays_open_after_a_reading_however_it_ended(shop: Shop):
    shop.insert(sale_row(NOON))

    def broken_consumer() -> None:
        with shop.source().read(WINDOW):
            raise ZeroDivisionError

    _rows(shop.source())
    with pytest.raises(ZeroDivisionError):
        broken_consumer()
    with pytest.raises(SourceSchemaMismatch):
        _rows(shop.source(table="nowhere"))
    with psycopg.connect(shop.dsn) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salesintel' AND datname = %s"
        for _ in range(200):
            open_now = connection.execute(query, [shop.connection.database]).fetchone()
            connection.rollback()
            if open_now == (0,):
                return
    pytest.fail("a connection stayed open")


@contextmanager
def _statement_log(connection: ConnectionParameters) -> Iterator[tuple[ConnectionParameters, bytearray]]:
    """Put a wire between client and server that records every byte the client says."""
    said = bytearray()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=_record, args=(listening, connection.port, said))
        thread.start()
        yield replace(connection, port=listening.getsockname()[1], sslmode="disable"), said
        thread.join(10)


def _record(listening: socket.socket, port: int, said: bytearray) -> None:
    listening.settimeout(10)
    client, _ = listening.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        answers = threading.Thread(target=_pump, args=(server, client, None))
        answers.start()
        _pump(client, server, said)
        answers.join(10)


def _pump(source: socket.socket, target: socket.socket, said: bytearray | None) -> None:
    while data := source.recv(65_536):
        if said is not None:
            said += data
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("name", ["sales; drop table x", '"a"."b"', "sales--", "a.b.c", "sales where true"])
def test_a_hostile_name_never_reaches_the_server(shop: Shop, name: str):
    """A24: the statement log holds the quoted names of the good mapping and nothing of the bad one."""
    shop.run("CREATE TABLE x ()")
    shop.insert(sale_row(NOON))
    with _statement_log(shop.connection) as (connection, said):
        for words in ({"table": name}, {"columns": {"brand": name}}):
            with pytest.raises(SourceMappingInvalid):
                _rows(SmartGoSource(connection, SourceMapping(tenants=TENANTS, **words), "EUR"))
        assert said == b""
        assert _ids(SmartGoSource(connection, SourceMapping(table="public.sales", tenants=TENANTS), "EUR")) == [
            "S-000001"
        ]
    assert b'FROM "public"."sales" AS "source"' in said
    assert name.encode() not in said
    shop.run("SELECT * FROM x")


def test_values_are_bound_and_never_part_of_the_statement(shop: Shop):
    """A24."""
    with _statement_log(shop.connection) as (connection, said):
        _rows(SmartGoSource(connection, SourceMapping(tenants=TENANTS), "EUR"))
    assert b'"source"."sold_at" >= $1 AND "source"."sold_at" < $2' in said
    statement = bytes(said).partition(b"DECLARE")[2].partition(b"\0")[0]
    assert statement.count(b"$") >= 2
    assert b"2026" not in statement


PASSWORD = "hunter2 correct/horse%zz"
PIECES = ("hunter2", "correct", "horse", "%zz", "zz")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2%zz@host/db",
        "postgresql://user:hunter2/correct@host/db",
        "postgresql://user:12/hunter2@host/db",
        "postgresql://user:hunter2@correct@host/db",
        "postgresql://user:hunter2@host:correct/db",
        "postgresql://user:hunter2@host:99999999/db",
        "postgresql://user:hunter2@host/db?correct=horse",
        "postgresql://user:hunter2@host/db?options=-c%20horse",
        "postgresql://user:hunter2@[host/db",
        "host=host dbname=db user=user password=hunter2 correct horse",
        "host=host dbname=db user=user password='hunter2",
        "host=host dbname=db user=user password=x hunter2=y",
        "hunter2",
        "hunter2 correct",
        "mysql://user:hunter2@host/db",
        "postgresql://user:hunter2@host\0/db",
        "postgresql://host/db",
        "postgresql://",
        " ",
        "",
    ],
)
def test_a_junk_connection_string_is_refused_in_fixed_words(dsn: str):
    """I3: not the message, not the traceback, not the chain."""
    with pytest.raises(SettingInvalid, match=r"^source database: ") as caught:
        connection_from_dsn(dsn)
    told = "".join(traceback.format_exception(caught.value)).partition("SettingInvalid: ")[2] + repr(caught.value)
    assert not [piece for piece in PIECES if piece in told]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_connection_string_is_taken_apart():
    """I3: spaces and percent signs arrive as they were meant."""
    dsn = "postgresql://reader:hunter2%20correct%2Fhorse%25zz@db.example:5433/smartgo?sslmode=verify-full&sslrootcert=ca.pem"
    expected = ConnectionParameters("db.example", "smartgo", "reader", PASSWORD, 5433, "verify-full", "ca.pem")
    assert connection_from_dsn(dsn) == expected
    assert connection_from_dsn("host=h dbname=d user=u password='a b'").port == 5432


@pytest.mark.parametrize(
    "changed,said",
    [
        ({"password": PASSWORD}, "refused the user or the password"),
        ({"username": "hunter2"}, "refused the user or the password"),
        ({"port": 1}, "connection refused"),
        ({"database": "nowhere"}, "no such database"),
        ({"sslmode": "require"}, "do not agree on TLS"),
        ({"host": "/nowhere-at-all"}, "no connection"),
    ],
)
def test_a_server_that_lets_nobody_in_is_unavailable_in_our_own_words(
    shop: Shop, changed: dict[str, object], said: str
):
    """I3."""
    source = SmartGoSource(replace(shop.connection, **changed), SourceMapping(tenants=TENANTS), "EUR")
    with pytest.raises(SourceUnavailable, match=said) as caught, source.read(WINDOW):
        pytest.fail("the reading began")
    told = "".join(traceback.format_exception(caught.value)).partition("SourceUnavailable: ")[2] + repr(caught.value)
    assert not [piece for piece in (*PIECES, shop.connection.password) if piece in told]


def test_a_database_that_is_closed_for_maintenance_is_told(shop: Shop):
    closed = f"{shop.connection.database}_closed"
    shop.run(f"CREATE DATABASE {closed} ALLOW_CONNECTIONS false")
    source = SmartGoSource(replace(shop.connection, database=closed), SourceMapping(tenants=TENANTS), "EUR")
    with pytest.raises(SourceUnavailable, match="the database takes no connections now"), source.read(WINDOW):
        pytest.fail("the reading began")


def test_a_server_that_does_not_answer_is_given_up_within_the_connect_timeout():
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        connection = ConnectionParameters(
            "127.0.0.1", "db", "user", PASSWORD, silent.getsockname()[1], connect_timeout_seconds=2
        )
        source = SmartGoSource(connection, SourceMapping(tenants=TENANTS), "EUR")
        with pytest.raises(SourceUnavailable, match="connect timeout"), source.read(WINDOW):
            pytest.fail("the reading began")


def test_a_source_shows_no_password(shop: Shop):
    """I3."""
    assert shop.connection.password not in repr(shop.source()) + repr(vars(shop.source()))


def test_bad_rows_of_a_real_table_are_quarantined_and_the_counts_add_up(shop: Shop):
    """A16, A17, A19 through Postgres itself."""
    bad = [
        {"tenant_id": None},
        {"tenant_id": ""},
        {"product_id": ""},
        {"sold_at": None},
        {"sold_price": Decimal(-1)},
        {"sold_price": Decimal("NaN")},
        {"sold_price": Decimal("Infinity")},
        {"sold_price": Decimal("1" * 39)},
    ]
    good = [sale_row(NOON, n, product_id="P-1") for n in range(3)]
    clash = sale_row(NOON + timedelta(hours=1), 0)
    shop.insert(*good, good[0], clash, *(sale_row(NOON, n) | changed for n, changed in enumerate(bad, start=100)))
    store = InMemoryObjectStore()
    quarantine = Quarantine(store, "smartgo")
    result = read_sales(
        export_run(DAY).run,
        shop.source(),
        StagedDays(store, "smartgo"),
        quarantine,
        InMemorySalesTable(),
        allow_empty=False,
    )
    assert (result.rows, result.duplicates, result.read) == (3, 1, 13)
    assert result.quarantined.by_status == {
        "TENANT_MISSING": 2,
        "PRICE_INVALID": 2,
        "FIELD_MISSING": 1,
        "PRICE_NOT_POSITIVE": 1,
        "PRICE_TOO_LARGE": 1,
        "CONFLICT": 1,
        "SOLD_AT_MISSING": 1,
    }
    assert sum(1 for _ in quarantine.read(DAY)) == 9


def test_every_error_of_the_source_is_of_our_tree():
    assert issubclass(SourceError, SalesIntelError)


def test_postgres_reads_local_time_as_the_other_sources_do(shop: Shop):
    """A3: MySQL and APIs are read by `domain.local_time`; every half hour around six changes of the clocks."""
    turns = {"Europe/Vilnius": ("2026-03-28", "2026-10-24"), "Pacific/Auckland": ("2026-04-04", "2026-09-26")}
    turns["Australia/Lord_Howe"] = ("2026-04-04", "2026-10-03")
    with psycopg.connect(shop.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for zone, days in turns.items():
            locals_ = [datetime.fromisoformat(day) + timedelta(minutes=30 * n) for day in days for n in range(96)]
            query = "SELECT at, at AT TIME ZONE %s::text FROM unnest(%s::timestamp[]) AS at"
            found = connection.execute(query, [zone, locals_]).fetchall()
            assert [instant for _, instant in found] == [instant_of(local, ZoneInfo(zone)) for local, _ in found]
