"""MySQL and MariaDB beyond the port's contract: types, local time, faults, TLS, names. Skipped where there is none."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from socket import create_server
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.adapters.mysql import MySqlSource
from salesintel_dagster.domain.calendar import day_window, days_between
from salesintel_dagster.domain.columns import BATCH_ROWS
from salesintel_dagster.domain.errors import (
    SourceError,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sale import SOURCE_FIELDS, SourceRow
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.flows.export.sales_raw import SalesRead, read_sales
from salesintel_dagster.flows.export.staging import StagedDays
from salesintel_dagster_tests.certificates import Authority
from salesintel_dagster_tests.fakes.export_run import export_run
from salesintel_dagster_tests.fakes.object_store import InMemoryObjectStore
from salesintel_dagster_tests.fakes.sales_table import InMemorySalesTable
from salesintel_dagster_tests.fakes.source import TENANT, sale_row
from salesintel_dagster_tests.mariadb import MariaDb
from salesintel_dagster_tests.source_shops import MAPPED, MySqlShop
from salesintel_dagster_tests.wires import Fault, Wire, wire

DAY = date(2026, 11, 3)
WINDOW = day_window(DAY, ZoneInfo("UTC"))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
MAPPING = SourceMapping(tenants=frozenset({TENANT}))
ROWS = BATCH_ROWS + 7
MID_RESULT = 60_000
DEADLINE = 1.5
RETRY = RetryPolicy(retries=3, base_seconds=0.05, deadline_seconds=DEADLINE)
TURNS = {
    "Europe/Vilnius": date(2026, 10, 25),
    "Pacific/Auckland": date(2026, 9, 27),
    "Australia/Lord_Howe": date(2026, 10, 4),
}
"""Days on which the clocks are set back, forward, and forward by half an hour."""
SSL_BIT = 0x08
"""CLIENT_SSL in the second byte of the greeting's capabilities."""


@pytest.fixture
def shop(mariadb: MariaDb) -> MySqlShop:
    opened = MySqlShop(mariadb)
    opened.fill([])
    return opened


def _rows(source: SaleSource, day: date = DAY, zone: str = "UTC") -> list[SourceRow]:
    with source.read(day_window(day, ZoneInfo(zone))) as found:
        return [row for block in found.rows for row in block]


def _at(connection: ConnectionParameters, **mapping: object) -> MySqlSource:
    return MySqlSource(connection, SourceMapping(**{**MAPPED, **mapping}), "EUR")


def _failure(source: SaleSource, kind: type[SourceError], unsaid: str = "canary") -> str:
    """Return the error's text. I3: neither it nor what it was raised from holds a secret or a row."""
    with pytest.raises(kind) as caught:
        _rows(source)
    assert type(caught.value) is kind
    told = "".join(traceback.format_exception(caught.value)).partition(f"{kind.__name__}: ")[2] + repr(caught.value)
    assert unsaid not in told
    assert "canary" not in told
    return str(caught.value)


@pytest.mark.parametrize("zone", list(TURNS))
def test_a_column_of_local_time_is_read_in_its_zone_also_on_the_days_when_the_clocks_change(shop: MySqlShop, zone: str):
    """A3: the server's own zone tables are empty here; each row lies in one day, in that of its instant."""
    middle = TURNS[zone]
    first = datetime(2026, middle.month, middle.day) - timedelta(days=1)  # noqa: DTZ001 - the column stores local time
    rows = [sale_row(first + timedelta(minutes=30 * n), n) for n in range(2 * 24 * 3)]
    shop.fill(rows, instant="datetime(6)")
    days = days_between(middle - timedelta(days=2), middle + timedelta(days=2))
    for partition in (zone, "UTC"):
        found = [(day, row) for day in days for row in _rows(shop.source(sold_at_zone=zone), day, partition)]
        assert sorted(str(row["sale_id"]) for _, row in found) == [row["sale_id"] for row in rows]
        assert all(row["sold_at"].astimezone(ZoneInfo(partition)).date() == day for day, row in found)
    source = shop.source(sold_at_zone=zone)
    for day in days:
        with source.read(day_window(day, ZoneInfo(zone))) as read:
            assert read.fingerprint == source.fingerprint(day_window(day, ZoneInfo(zone)))


def test_an_hour_that_occurs_twice_is_read_as_its_second_occurrence(shop: MySqlShop):
    """As in Postgres."""
    local = datetime(2026, 10, 25, 3, 20)  # noqa: DTZ001 - the column stores local time
    shop.fill([sale_row(local)], instant="datetime")
    [row] = _rows(shop.source(sold_at_zone="Europe/Vilnius"), date(2026, 10, 25), "Europe/Vilnius")
    assert row["sold_at"] == datetime(2026, 10, 25, 1, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    "kind,stored,expected",
    [
        ("decimal(41,2)", "1" + "0" * 38, Decimal("1E+38")),
        ("float", "19.99", "19.99"),
        ("double", "19.99", 19.99),
        ("int", "20", 20),
        ("bigint unsigned", "18446744073709551615", 18446744073709551615),
        ("varchar(20)", " 19.99", " 19.99"),
    ],
)
def test_a_price_arrives_exactly_as_it_is_stored(shop: MySqlShop, kind: str, stored: str, expected: object):
    """A16."""
    source = shop.fill([sale_row(NOON, sold_price=stored)], price=kind)
    [row] = _rows(source)
    assert row["sold_price"] == expected
    assert type(row["sold_price"]) is type(expected)


def test_ids_of_any_type_arrive_as_text_and_bytes_as_hex_digits(shop: MySqlShop):
    shop.fill([sale_row(NOON, sale_id="ab", product_id="42")])
    shop.run(
        "ALTER TABLE sales MODIFY sale_id varbinary(4), MODIFY product_id int, MODIFY category enum('shoes', 'bags')"
    )
    [row] = _rows(shop.source())
    assert (row["sale_id"], row["product_id"], row["category"]) == ("6162", "42", "shoes")


def test_text_of_any_character_set_arrives_whole(shop: MySqlShop):
    cat = "Žąsys \N{CAT FACE} 100% 'a\\b\"`"
    shop.fill([sale_row(NOON, 1, brand=cat), sale_row(NOON, 2, brand="Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n")])
    assert next(row["brand"] for row in _rows(shop.source())) == cat
    shop.run("UPDATE sales SET brand = 'Grün'", "ALTER TABLE sales MODIFY brand varchar(20) CHARACTER SET latin1")
    assert {row["brand"] for row in _rows(shop.source())} == {"Grün"}


def test_a_zero_date_is_quarantined_and_not_lost(shop: MySqlShop):
    """A16: MySQL's `0000-00-00` says nothing, so the row comes with those that have no instant."""
    shop.fill([sale_row(NOON, 1), sale_row(NOON, 2)])
    shop.run("SET STATEMENT sql_mode = '' FOR UPDATE sales SET sold_at = 0 WHERE sale_id = 'S-000001'")
    assert [(row["sale_id"], str(row["sold_at"])[:4]) for row in _rows(shop.source(columns={}))] == [
        ("S-000002", "2026"),
        ("S-000001", "0000"),
    ]
    assert shop.source(columns={}).fingerprint(WINDOW).rows == 2


def test_nothing_of_the_servers_own_settings_moves_a_sale(shop: MySqlShop):
    """A3: the server of the tests lives in Auckland; the session's own mode and zone hold."""
    shop.fill([sale_row(NOON, n, sold_price=Decimal("1.10")) for n in range(3)])
    before = (_rows(shop.source()), shop.source().fingerprint(WINDOW))
    changes = ("time_zone = '-11:00'", "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'")
    try:
        shop.run(*(f"SET GLOBAL {change}" for change in changes), "SET GLOBAL tx_isolation = 'READ-UNCOMMITTED'")
        assert (_rows(shop.source()), shop.source().fingerprint(WINDOW)) == before
    finally:
        shop.run(*(f"SET GLOBAL {name} = DEFAULT" for name in ("time_zone", "sql_mode", "tx_isolation")))


def test_a_query_with_percent_signs_and_comments_is_a_source(shop: MySqlShop):
    shop.fill([sale_row(NOON, 1), sale_row(NOON, 2, category="bags")])
    query = "SELECT *, '100%' AS share FROM sales WHERE category LIKE 'sho%' -- ours"
    source = shop.source(table=None, query=query)
    assert [row["sale_id"] for row in _rows(source)] == ["S-000001"]
    assert source.fingerprint(WINDOW).rows == 1


def test_columns_are_mapped_even_when_their_names_are_keywords(shop: MySqlShop):
    schema = shop.connection.database
    shop.run(
        "CREATE TABLE `order` (`user` varchar(9), `Select` decimal(9,2), product_id int, category text,"
        " sold_at timestamp)",
        "INSERT INTO `order` VALUES ('S-1', 5, 1, 'bags', '2026-11-03 12:00')",
    )
    columns = {"sale_id": "user", "sold_price": "Select", "brand": None, "condition": None, "currency": None}
    source = shop.source(table=f"{schema}.order", columns={**columns, "image_url": None}, tenant=TENANT)
    assert _rows(source) == [
        {"sale_id": "S-1", "product_id": "1", "category": "bags", "sold_price": Decimal(5), "sold_at": NOON}
    ]


@pytest.mark.parametrize(
    "change,said",
    [
        (
            "ALTER TABLE sales CHANGE sold_price amount int",
            "no column sold_price; wanted: .*sold_price.*found: .*amount",
        ),
        ("ALTER TABLE sales DROP brand, DROP sold_at", "no column brand, sold_at"),
        ("ALTER TABLE sales MODIFY sold_at date", "column sold_at is date, expected timestamp or datetime"),
        ("ALTER TABLE sales MODIFY sold_at datetime", "without time zone; name its zone in sold_at_zone"),
        ("ALTER TABLE sales MODIFY sold_price blob", "column sold_price is blob, expected decimal"),
        ("DROP TABLE sales", "no table sales for this user"),
    ],
)
def test_a_changed_table_is_a_clear_error_before_any_row(shop: MySqlShop, change: str, said: str):
    """A18."""
    shop.run(change)
    with pytest.raises(SourceSchemaMismatch, match=said), shop.source().read(WINDOW):
        pytest.fail("the reading began")


def test_a_table_without_snapshots_is_refused(shop: MySqlShop):
    """A14."""
    shop.run("ALTER TABLE sales ENGINE=MyISAM")
    assert "is kept by MyISAM, which has no snapshots" in _failure(shop.source(), SourceMappingInvalid)


@pytest.mark.parametrize(
    "query,kind,said",
    [
        ("SELECT * FROM sales WHERE SLEEP(5) = 0", SourceUnavailable, "statement timeout"),
        ("SELECT *, NEXTVAL(numbers) AS n FROM sales", SourceMappingInvalid, "only reads"),
        ("SELECT 1) AS x, (SELECT 2", SourceSchemaMismatch, "no column"),
        ("SELECT * FROM nowhere", SourceSchemaMismatch, "a table is missing"),
        ("SELECT *, sale_id FROM sales", SourceSchemaMismatch, "more than one column"),
        ("SELECT canary FROM sales", SourceSchemaMismatch, "a column is missing"),
        ("SELECT * FROM", SourceMappingInvalid, "does not accept"),
        ("SELECT * FROM sales INTO OUTFILE '/nowhere/canary'", SourceMappingInvalid, "does not accept"),
        ("SELECT LOAD_FILE('/canary') AS sale_id FROM sales", SourceSchemaMismatch, "no column"),
    ],
)
def test_a_query_that_stalls_writes_or_fails_is_one_error_without_a_rows_content(
    shop: MySqlShop, query: str, kind: type[SourceError], said: str
):
    """A24: what slips past the mapping's rules meets a read-only session."""
    shop.fill([sale_row(NOON)])
    shop.run("CREATE SEQUENCE numbers")
    hasty = replace(shop.connection, statement_timeout_seconds=1)
    assert said in _failure(_at(hasty, table=None, query=query), kind, shop.connection.password)


@pytest.mark.parametrize("name", ["sales; drop table x", "`a`.`b`", "sales-- ", "a.b.c", "sales` where 1"])
def test_a_hostile_name_never_reaches_the_server(shop: MySqlShop, name: str):
    """A24."""
    with wire(shop.connection.port) as line:
        for words in ({"table": name}, {"columns": {"brand": name}}):
            with pytest.raises(SourceMappingInvalid):
                _rows(_at(replace(shop.connection, port=line.port, sslmode="disable"), **words))
        assert line.said == b""


def test_extra_columns_are_not_even_asked_for(shop: MySqlShop):
    """A18: a user who may read the mapped columns only can read the day."""
    shop.fill([sale_row(NOON)])
    name, columns = f"r{shop.connection.database[-8:]}", ", ".join(f"`{field}`" for field in SOURCE_FIELDS)
    shop.run(
        f"CREATE USER {name}@127.0.0.1 IDENTIFIED BY 'pw-of-a-reader'",
        f"GRANT SELECT ({columns}) ON sales TO {name}@127.0.0.1",
    )
    reader = replace(shop.connection, username=name, password="pw-of-a-reader")
    [row] = _rows(MySqlSource(reader, MAPPING, "EUR"))
    assert set(row) == set(SOURCE_FIELDS)
    shop.run(f"REVOKE SELECT (brand) ON sales FROM {name}@127.0.0.1")  # noqa: S608 - our own name
    assert "no column brand" in _failure(MySqlSource(reader, MAPPING, "EUR"), SourceSchemaMismatch)


def test_the_evidence_tells_how_the_day_was_asked_for_and_no_secret(shop: MySqlShop):
    """A12."""
    with shop.source().read(WINDOW) as day:
        assert list(day.rows) == []
    assert "`source`.`sold_at` >= %(start)s AND `source`.`sold_at` < %(end)s" in day.evidence["sql"]
    assert day.evidence["isolation"] == "repeatable read, consistent snapshot, read only"
    assert day.evidence["session_time_zone"] == "+00:00"
    assert day.evidence["server_version"]
    assert shop.connection.password not in repr(day.evidence) + repr(shop.source()) + repr(vars(shop.source()))


@pytest.mark.parametrize(
    "changed,kind,said",
    [
        ({"password": "pw canary%zz"}, SourceRefused, "refused the user or the password"),
        ({"username": "canary"}, SourceRefused, "refused the user or the password"),
        ({"database": "canary"}, SourceRefused, "no such database"),
        ({"port": 1}, SourceUnavailable, "connection refused"),
        ({"host": "/nowhere/canary-socket"}, SourceUnavailable, "no connection"),
        ({"password": "\N{CAT FACE}canary"}, SourceRefused, "refused the user or the password"),
    ],
)
def test_a_server_that_lets_nobody_in_is_told_in_our_own_words(
    shop: MySqlShop, changed: dict[str, Any], kind: type[SourceError], said: str
):
    """I3."""
    source = _at(replace(shop.connection, **changed))
    with pytest.raises(kind, match=said) as caught:
        _rows(source)
    told = "".join(traceback.format_exception(caught.value)).partition(f"{kind.__name__}: ")[2]
    assert not [piece for piece in ("pw canary", "zz", shop.connection.password) if piece in told]


def test_what_does_not_speak_mysql_is_unavailable():
    with closing(create_server(("127.0.0.1", 0))) as silent:
        connection = ConnectionParameters(
            "127.0.0.1", "db", "user", "canary", silent.getsockname()[1], connect_timeout_seconds=1
        )
        assert "no answer for 1 s" in _failure(MySqlSource(connection, MAPPING, "EUR"), SourceUnavailable)


class WiredShop:
    """A source of ROWS sales behind a wire, and the store into which its day is read."""

    def __init__(self, shop: MySqlShop, line: Wire) -> None:
        self.shop = shop
        self.wire = line
        self.store = InMemoryObjectStore()
        self.connection = replace(
            shop.connection, port=line.port, sslmode="disable", connect_timeout_seconds=1, statement_timeout_seconds=2
        )

    @property
    def source(self) -> MySqlSource:
        return _at(self.connection)

    def read(self, deadline_seconds: float = DEADLINE) -> SalesRead:
        staged, quarantine = StagedDays(self.store, "smartgo"), Quarantine(self.store, "smartgo")
        retry = replace(RETRY, deadline_seconds=deadline_seconds)
        run, table = export_run(DAY).run, InMemorySalesTable()
        return read_sales(run, self.source, staged, quarantine, table, allow_empty=False, retry=retry)


@pytest.fixture
def wired(shop: MySqlShop) -> Iterator[WiredShop]:
    shop.fill([sale_row(WINDOW.start + timedelta(seconds=n), n) for n in range(ROWS)])
    with wire(shop.connection.port) as line:
        yield WiredShop(shop, line)


FAULTS = {
    "drops in mid result": Fault("cut", MID_RESULT),
    "stalls at the door": Fault("stall"),
    "stalls in mid result": Fault("stall", MID_RESULT),
    "drips in mid result": Fault("drip", MID_RESULT),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_server_that_fails_for_good_is_given_up_within_the_deadline_and_leaves_the_day_as_it_was(
    wired: WiredShop, fault: Fault
):
    """A13."""
    wired.read(30)
    before = dict(wired.store.objects)
    wired.shop.run("UPDATE sales SET sold_price = 5")
    wired.wire.faults += [fault] * 10
    began = time.monotonic()
    with pytest.raises(SourceUnavailable) as caught:
        wired.read()
    assert time.monotonic() - began <= DEADLINE + 2
    assert wired.store.objects == before
    assert wired.connection.password not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("fault", ["drops in mid result", "stalls at the door"])
def test_a_server_that_fails_once_is_read_again_and_the_day_is_whole(wired: WiredShop, fault: str):
    """A13."""
    wired.wire.faults.append(FAULTS[fault])
    assert wired.read(30).rows == ROWS
    assert wired.wire.connections >= 2


def test_a_second_connections_changes_between_two_statements_are_not_seen(wired: WiredShop):
    """A14: the sum over the day and its rows see one snapshot."""
    expected = wired.source.fingerprint(WINDOW)
    changes = iter(["UPDATE sales SET sold_price = 2", "DELETE FROM sales WHERE sale_id < 'S-001'"])

    def change(piece: bytes) -> None:
        if b"ORDER BY (" in piece:
            wired.shop.run(*changes)

    wired.wire.before_passing = change
    with wired.source.read(WINDOW) as day:
        rows = [row for block in day.rows for row in block]
    assert next(changes, None) is None
    assert day.fingerprint == expected
    assert len(rows) == ROWS
    assert {row["sold_price"] for row in rows} == {Decimal("19.90")}


def test_a_consumer_that_stops_reads_no_further_and_leaves_no_connection(wired: WiredShop):
    """A15: rows come as they are asked for. 40 MB are there, the sockets' buffers and one block of 8 MB are taken."""
    query = (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
        " SELECT CONCAT(a.i, '-', b.i) AS sale_id, 'p' AS product_id, 'carousel-labs' AS tenant_id,"
        " 'c' AS category, NULL AS brand, NULL AS `condition`, 1 AS sold_price, NULL AS currency,"
        " FROM_UNIXTIME(1793707200) AS sold_at, REPEAT('x', 4000) AS image_url FROM n AS a, n AS b"
    )
    patient = replace(wired.connection, statement_timeout_seconds=60)
    source = _at(patient, table=None, query=query, columns={}, sold_at_zone="UTC")
    with source.read(WINDOW) as day:
        assert len(next(day.rows)) == BATCH_ROWS
        assert wired.wire.passed < 30_000_000
    began = time.monotonic()
    with source.read(WINDOW) as day:
        assert sum(len(block) for block in day.rows) == 10_000
    assert wired.wire.passed > 40_000_000
    assert time.monotonic() - began < 30


def _tls(mariadb: MariaDb, **changed: object) -> ConnectionParameters:
    if mariadb.authority is None:
        pytest.skip("openssl is not on PATH: the server has no TLS")
    right = {"sslmode": "verify-full", "sslrootcert": str(mariadb.authority.file)}
    return replace(mariadb.admin, **{**right, **changed})


def test_the_right_authority_and_the_right_name_let_us_in_over_tls(mariadb: MariaDb):
    """I7."""
    with wire(mariadb.admin.port) as line:
        source = _at(_tls(mariadb, port=line.port), table="nowhere")
        assert "no table nowhere" in _failure(source, SourceSchemaMismatch)
        assert mariadb.admin.username.encode() not in line.said
        assert b"SELECT" not in line.said


def test_a_server_that_does_not_prove_who_it_is_is_refused_before_it_is_told_who_we_are(
    mariadb: MariaDb, tmp_path: Path
):
    """I7."""
    other = Authority(tmp_path)
    cases = {
        "the server's certificate is not trusted": [{"sslrootcert": str(other.file)}, {"sslrootcert": None}],
        "the server's certificate is for another name": [{"host": "localhost"}],
        "the file of trusted certificates (sslrootcert) cannot be read": [{"sslrootcert": "/nowhere/ca.pem"}],
    }
    with wire(mariadb.admin.port) as line:
        for said, changes in cases.items():
            for changed in changes:
                source = _at(_tls(mariadb, port=line.port, **changed), table="nowhere")
                assert _failure(source, SourceRefused, mariadb.admin.password).endswith(said)
        assert mariadb.admin.username.encode() not in line.said


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_wire_that_hides_the_servers_tls_is_told_nothing(mariadb: MariaDb, mode: str):
    """I7: the greeting is not protected, so TLS that it does not offer is not done without."""

    def hidden(piece: bytes) -> bytes:
        if b"mysql_native_password" not in piece:
            return piece
        changed = bytearray(piece)
        changed[piece.index(b"\0", 5) + 15] &= ~SSL_BIT
        return bytes(changed)

    with wire(mariadb.admin.port) as line:
        line.altered = hidden
        source = _at(_tls(mariadb, port=line.port, sslmode=mode), table="nowhere")
        assert _failure(source, SourceRefused, mariadb.admin.password).endswith("do not agree on TLS (error 2026)")
        assert line.said == b""


def test_without_the_name_the_authority_alone_may_do_where_it_is_asked_for(mariadb: MariaDb):
    for mode in ("verify-ca", "require", "prefer", "allow", "disable"):
        source = _at(_tls(mariadb, sslmode=mode, host="localhost"), table="nowhere")
        assert "no table nowhere" in _failure(source, SourceSchemaMismatch)
