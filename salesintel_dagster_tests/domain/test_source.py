from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesintel_dagster.domain.errors import SettingInvalid, SourceMappingInvalid
from salesintel_dagster.domain.sale import SOURCE_FIELDS
from salesintel_dagster.domain.source import IDENTIFIER, OPTIONAL_FIELDS, ConnectionParameters, SourceMapping

CANARY = "hunter2-correct-horse"
CONFIG = {"host": "db.example", "database": "smartgo", "username": "reader", "password": CANARY}

HOSTILE_NAMES = [
    "sales; drop table x",
    '"a"."b"',
    "a.b.c",
    "sales--",
    "sales/**/x",
    "a b",
    "a'b",
    "",
    ".",
    "sales.",
    "1sales",
    "pg_sleep(1)",
    "sales\n",
    "sales\0",
    "sąles",
    "x" * 64,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_table_that_is_not_a_plain_name_is_refused(name: str):
    """A24."""
    with pytest.raises(SourceMappingInvalid, match="table"):
        SourceMapping(table=name)


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "schema.column"])
def test_a_column_that_is_not_a_plain_name_is_refused(name: str):
    """A24."""
    with pytest.raises(SourceMappingInvalid, match="columns: brand"):
        SourceMapping(columns={"brand": name})


@given(name=st.text(max_size=70))
def test_a_table_is_taken_only_when_each_part_is_an_identifier(name: str):
    """A24."""
    plain = len(name.split(".")) <= 2 and all(IDENTIFIER.fullmatch(part) for part in name.split("."))
    if plain:
        assert SourceMapping(table=name).table == name
    else:
        with pytest.raises(SourceMappingInvalid):
            SourceMapping(table=name)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sales",
        "SELECT 1; DROP TABLE x",
        "EXPLAIN ANALYZE SELECT 1",
        "selection",
        "",
        "-- nothing",
        "COPY sales TO STDOUT",
    ],
)
def test_a_query_that_is_not_one_select_is_refused(query: str):
    """A24."""
    with pytest.raises(SourceMappingInvalid, match="one SELECT"):
        SourceMapping(table=None, query=query)


def test_a_query_may_begin_with_with():
    query = " \n with s as (select 1) select * from s"
    assert SourceMapping(table=None, query=query).query == query


def test_a_source_is_a_table_or_a_query_and_not_both():
    with pytest.raises(SourceMappingInvalid, match="either a table or a query"):
        SourceMapping(table="sales", query="SELECT 1")
    with pytest.raises(SourceMappingInvalid, match="either a table or a query"):
        SourceMapping(table=None)


def test_only_our_fields_are_mapped_and_only_optional_ones_may_have_no_column():
    with pytest.raises(SourceMappingInvalid, match="'colour' is not a field"):
        SourceMapping(columns={"colour": "c"})
    for name in set(SOURCE_FIELDS) - OPTIONAL_FIELDS:
        with pytest.raises(SourceMappingInvalid, match="is required"):
            SourceMapping(columns={name: None})
    assert SourceMapping(columns=dict.fromkeys(OPTIONAL_FIELDS)).column_of("brand") is None


def test_a_field_maps_to_the_column_of_its_own_name_unless_named():
    mapping = SourceMapping(columns={"sold_price": "amount", "recorded_at": "created"}, tenant="carousel-labs")
    assert mapping.column_of("sold_price") == "amount"
    assert mapping.column_of("category") == "category"
    assert mapping.column_of("recorded_at") == "created"
    assert mapping.column_of("tenant_id") is None
    assert SourceMapping().column_of("recorded_at") is None


@pytest.mark.parametrize("tenant", ["T", "a b", "t#1", "", "-t", "t" * 64, "../x"])
def test_a_tenant_that_could_not_stand_in_a_key_is_refused(tenant: str):
    for words in ({"tenant": tenant}, {"tenants": frozenset({tenant})}):
        with pytest.raises(SourceMappingInvalid, match="tenant"):
            SourceMapping(**words)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", "UTC'; --"])
def test_a_zone_that_does_not_exist_is_refused(zone: str):
    with pytest.raises(SourceMappingInvalid, match="IANA time zone"):
        SourceMapping(sold_at_zone=zone)


def test_the_rules_are_the_sources_own_tenant_or_those_it_may_send():
    assert SourceMapping(tenant="one").rules("EUR").tenants == {"one"}
    many = SourceMapping(tenants=frozenset({"one", "two"})).rules("USD")
    assert (many.tenants, many.tenant, many.default_currency) == ({"one", "two"}, None, "USD")
    with pytest.raises(SourceMappingInvalid, match="names its tenant"):
        SourceMapping().rules("EUR")


@pytest.mark.parametrize(
    "field,value",
    [
        ("host", f"{CANARY}@db"),
        ("host", ""),
        ("host", "db name"),
        ("host", "/run/../x y"),
        ("host", None),
        ("database", f"34@{CANARY}/db"),
        ("database", "a'b"),
        ("username", ""),
        ("password", ""),
        ("password", 7),
        ("password", f"{CANARY}\0"),
        ("port", 0),
        ("port", 65_536),
        ("port", "5432"),
        ("port", True),
        ("sslmode", CANARY),
        ("sslmode", ["prefer"]),
        ("sslrootcert", ""),
        ("connect_timeout_seconds", 0),
        ("statement_timeout_seconds", 10**9),
    ],
)
def test_a_connection_that_cannot_be_is_refused_by_field_and_rule_without_its_value(field: str, value: object):
    """I3."""
    with pytest.raises(SettingInvalid, match=f"{field}: expected") as caught:
        ConnectionParameters(**{**CONFIG, field: value})
    assert CANARY not in str(caught.value)


def test_a_connection_shows_its_place_and_never_its_password():
    connection = ConnectionParameters(**CONFIG)
    assert connection.place == "db.example:5432/smartgo"
    assert CANARY not in repr(connection) + str(connection)


LOCAL = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "/run/postgresql"]
ELSEWHERE = [
    "db.example",
    "10.0.0.5",
    "192.168.1.9",
    "0.0.0.0",  # noqa: S104 - an address nobody binds here
    "127.0.0.1.example",
    "127.1",
    "2130706433",
    "localhost.example",
    "::ffff:10.0.0.5",
    "fe80::1%lo",
    "db",
]
WEAKER = ["disable", "allow", "prefer", "require", "verify-ca"]


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_server_elsewhere_proves_who_it_is_or_is_not_reached(host: str):
    """I6."""
    assert ConnectionParameters(**{**CONFIG, "host": host}).tls_mode == "verify-full"
    for mode in WEAKER:
        config = {**CONFIG, "host": host, "sslmode": mode}
        with pytest.raises(SettingInvalid, match="verify-full for a host that is not local; allow") as caught:
            ConnectionParameters(**config)
        assert CANARY not in str(caught.value)
        assert ConnectionParameters(**config, allow_unverified_tls=True).tls_mode == mode


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_may_be_reached_without_tls(host: str):
    """I6."""
    assert ConnectionParameters(**{**CONFIG, "host": host}).tls_mode == "prefer"
    for mode in [*WEAKER, "verify-full"]:
        assert ConnectionParameters(**{**CONFIG, "host": host, "sslmode": mode}).tls_mode == mode


def test_the_opt_out_alone_weakens_nothing():
    """I6: it allows a weaker mode, it does not choose one."""
    assert ConnectionParameters(**CONFIG, allow_unverified_tls=True).tls_mode == "verify-full"
    for value in ("true", 1, None):
        with pytest.raises(SettingInvalid, match="allow_unverified_tls: expected true or false"):
            ConnectionParameters(**CONFIG, allow_unverified_tls=value)
