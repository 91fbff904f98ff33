from __future__ import annotations

import io
import json
import traceback
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.parameters import read_source_config
from salesintel_dagster.adapters.source_config import ApiConfig, DatabaseConfig, parse_source_config
from salesintel_dagster.domain.errors import SalesIntelError, SettingInvalid, SourceUnavailable
from salesintel_dagster.domain.redaction import Redaction
from salesintel_dagster.domain.rest_source import RestMapping, RestParameters
from salesintel_dagster.domain.source import SourceMapping

NAME = "/tf/dev/smartgo/database/config"
CANARY = "hunter2-canary"
GOOD: dict[str, Any] = {
    "host": "db.internal",
    "port": 5432,
    "database": "smartgo",
    "username": "reader",
    "password": CANARY,
}


API = {"kind": "rest", "url": "https://api.example/v1/sales?from={from}&to={to}", "token": CANARY}


def _text(**changes: object) -> str:
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...})


class TestParse:
    def test_the_required_keys_alone_are_enough(self) -> None:
        config = parse_source_config(NAME, _text())
        found = config.connection
        assert (found.host, found.port, found.database, found.username, found.password) == tuple(GOOD.values())
        assert (found.tls_mode, found.sslrootcert) == ("verify-full", None)
        assert config.mapping == SourceMapping()

    def test_every_optional_key_is_taken(self) -> None:
        mapping = {
            "table": "shop.sold",
            "columns": {"sold_at": "closed_at", "brand": None},
            "tenants": ["carousel-labs", "other"],
            "sold_at_zone": "Europe/Vilnius",
        }
        text = _text(sslmode="verify-full", sslrootcert="/certs/ca.pem", statement_timeout_seconds=60, mapping=mapping)
        config = parse_source_config(NAME, text)
        assert (config.connection.sslmode, config.connection.sslrootcert) == ("verify-full", "/certs/ca.pem")
        assert config.connection.statement_timeout_seconds == 60
        assert config.mapping == SourceMapping(
            table="shop.sold",
            columns={"sold_at": "closed_at", "brand": None},
            tenants=frozenset({"carousel-labs", "other"}),
            sold_at_zone="Europe/Vilnius",
        )

    def test_a_server_elsewhere_is_trusted_unverified_only_where_the_parameter_says_so(self) -> None:
        """I6"""
        config = parse_source_config(NAME, _text(sslmode="disable", allow_unverified_tls=True))
        assert config.connection.tls_mode == "disable"
        assert parse_source_config(NAME, _text(allow_unverified_tls=True)).connection.tls_mode == "verify-full"
        local = parse_source_config(NAME, _text(host="127.0.0.1", sslmode="disable"))
        assert local.connection.tls_mode == "disable"

    def test_the_mapping_may_stand_beside_the_connection(self) -> None:
        flat = parse_source_config(NAME, _text(query="SELECT * FROM sold", tenant="carousel-labs"))
        nested = parse_source_config(
            NAME, _text(mapping={"query": "SELECT * FROM sold", "table": None, "tenant": "carousel-labs"})
        )
        assert flat == nested
        assert flat.mapping == SourceMapping(table=None, query="SELECT * FROM sold", tenant="carousel-labs")

    @pytest.mark.parametrize("password", ["%zz", "a b", "'\"\\", "\N{KEY}", "@:/?#", "postgresql://x"])
    def test_a_password_is_taken_letter_by_letter(self, password: str) -> None:
        """I3"""
        assert parse_source_config(NAME, _text(password=password)).connection.password == password

    def test_no_password_in_the_repr(self) -> None:
        """I3"""
        config = parse_source_config(NAME, _text())
        assert CANARY not in repr(config)
        assert CANARY not in str(config)

    @pytest.mark.parametrize(
        "text,rule",
        [
            ("", "is empty"),
            (" \n", "is empty"),
            (f"postgresql://reader:{CANARY}@db/smartgo", "is not a JSON object"),
            (f'{{"password": "{CANARY}"', "is not a JSON object"),
            (f'["{CANARY}"]', "is not a JSON object"),
            (f'"{CANARY}"', "is not a JSON object"),
            ("null", "is not a JSON object"),
            ("[" * 8_000, "is not a JSON object"),
            (_text()[:-1] + f', "password": "{CANARY}2"}}', "password: stands there twice"),
            (_text(mapping={"columns": {}})[:-3] + '"brand": null, "brand": "b"}}}', "brand: stands there twice"),
            (_text(password=...), "password: required and not there"),
            (_text(host=..., port=...), "host, port: required and not there"),
            (_text(pasword=CANARY), "pasword: no such key; did you mean password?"),
            (_text(**{f"postgresql://x:{CANARY}@db": 1}), "(a key that is no name): no such key"),
            (_text(password=""), "password: expected text that is not empty"),
            (_text(password=None), "password: expected text that is not empty"),
            (_text(password=f"{CANARY}\0"), "password: expected text that is not empty"),
            (_text(password=[CANARY]), "password: expected text that is not empty"),
            (_text(username=7), "username: expected text that is not empty"),
            (_text(port="5432"), "port: expected an integer from 1 to 65535"),
            (_text(port=True), "port: expected an integer from 1 to 65535"),
            (_text(port=5432.0), "port: expected an integer from 1 to 65535"),
            (_text(port=0), "port: expected an integer from 1 to 65535"),
            (_text(host=f"reader:{CANARY}@db"), "host: expected a host name"),
            (_text(host=None), "host: expected a host name"),
            (_text(database=f"{CANARY} x"), "database: expected letters"),
            (_text(sslmode=CANARY), "sslmode: expected one of disable"),
            (_text(sslmode={"a": 1}), "sslmode: expected one of disable"),
            (_text(sslrootcert=5), "sslrootcert: expected a path"),
            (_text(sslmode="require"), "sslmode: expected verify-full for a host that is not local"),
            (_text(sslmode="disable", allow_unverified_tls=False), "allow_unverified_tls lets it be less"),
            (_text(allow_unverified_tls="yes"), "allow_unverified_tls: expected true or false"),
            (_text(mapping=CANARY), "mapping: expected an object"),
            (_text(mapping={}, table="sales"), "table: stands beside `mapping`"),
            (_text(mapping={"tabel": "x"}), "mapping.tabel: no such key; did you mean table?"),
            (_text(table=5), "table: expected a name or null"),
            (_text(query=""), "query: expected one SELECT or null"),
            (_text(columns=["a"]), "columns: expected an object"),
            (_text(columns={"brand": 5}), "columns: expected an object"),
            (_text(columns={"colour": "c"}), "'colour' is not a field"),
            (_text(tenants="carousel-labs"), "tenants: expected a list"),
            (_text(tenants=[5]), "tenants: expected a list"),
            (_text(tenant="Not A Tenant"), "a tenant matches"),
            (_text(sold_at_zone="Mars/Olympus"), "sold_at_zone: expected an IANA time zone"),
            (_text(table="sales", query="SELECT 1"), "either a table or a query"),
            (_text(table="sales; drop table x"), "expected name or schema.name"),
            (_text(query=f"{CANARY}; SELECT 1"), "query: expected one SELECT"),
        ],
    )
    def test_what_is_wrong_is_named_by_key_and_rule_and_never_by_value(self, text: str, rule: str) -> None:
        """I2"""
        with pytest.raises(SettingInvalid) as failure:
            parse_source_config(NAME, text)
        assert str(failure.value).startswith(f"SSM parameter {NAME}: ")
        assert rule in str(failure.value)
        _assert_no_canary(failure.value)

    def test_the_kind_is_postgres_unless_it_says_otherwise(self) -> None:
        assert parse_source_config(NAME, _text()) == parse_source_config(NAME, _text(kind="postgres"))
        mysql = parse_source_config(NAME, _text(kind="mysql", tenant="carousel-labs"))
        assert isinstance(mysql, DatabaseConfig)
        assert (mysql.kind, mysql.connection.tls_mode) == ("mysql", "verify-full")

    def test_an_api_has_keys_of_its_own(self) -> None:
        mapping = {"columns": {"sold_price": "price.amount"}, "tenant": "carousel-labs"}
        config = parse_source_config(
            NAME, json.dumps({**API, "rows_field": "data", "page_parameter": "page", "mapping": mapping})
        )
        assert config == ApiConfig(
            RestParameters(API["url"], CANARY, rows_field="data", page_parameter="page"),
            RestMapping(columns={"sold_price": "price.amount"}, tenant="carousel-labs"),
        )
        assert CANARY not in repr(config) + str(config)

    @pytest.mark.parametrize("kind", ["oracle", CANARY, "", None, 5, ["rest"], {"rest": 1}, "REST"])
    def test_an_unknown_kind_is_refused_by_naming_the_known_ones(self, kind: object) -> None:
        """I2"""
        with pytest.raises(SettingInvalid) as failure:
            parse_source_config(NAME, _text(kind=kind))
        assert str(failure.value) == f"SSM parameter {NAME}: kind: expected one of postgres, mysql, rest"
        _assert_no_canary(failure.value)

    @pytest.mark.parametrize(
        "changes,rule",
        [
            ({"url": ...}, "url: required and not there"),
            ({"token": ...}, "token: required and not there"),
            ({"token": f"{CANARY} x"}, "token: expected printable ASCII without a space"),
            ({"token": f"{CANARY}\r\nX: y"}, "token: expected printable ASCII without a space"),
            ({"url": "http://api.example/{from}/{to}"}, "url: expected https for a host that is not local"),
            ({"url": f"https://api.example/{{from}}?key={CANARY}"}, "url: expected https://host/..."),
            ({"url": f"https://u:{CANARY}@api.example/{{from}}/{{to}}"}, "url: expected https://host/..."),
            ({"url": f"https://{{from}}.example/{{to}}?key={CANARY}"}, "url: expected https://host/..."),
            ({"url": f"https://api.example/{{from}}/{{to}}/{{{CANARY}}}"}, "url: expected https://host/..."),
            ({"url": f"https://api.example/{{from}}/{{to}}#{CANARY}"}, "url: expected https://host/..."),
            ({"url": f"https://api.example:{CANARY}/{{from}}/{{to}}"}, "url: expected https://host/..."),
            ({"url": f"ftp://{CANARY}/{{from}}/{{to}}"}, "url: expected https://host/..."),
            ({"url": 5}, "url: expected https://host/..."),
            ({"rows_field": f"{CANARY}..x"}, "rows_field: expected a field such as"),
            ({"cursor_parameter": "after"}, "cursor_parameter: needs next_field"),
            ({"page_parameter": "page", "next_field": "next"}, "by number or by next_field, not both"),
            ({"page_parameter": f"{CANARY}&x"}, "page_parameter: expected the name of a query parameter"),
            ({"max_rows": 0}, "max_rows: expected an integer from 1 to 10000000"),
            ({"page_timeout_seconds": "30"}, "page_timeout_seconds: expected an integer from 1 to 600"),
            ({"page_retries": True}, "page_retries: expected an integer from 0 to 10"),
            ({"tokn": CANARY}, "tokn: no such key; did you mean token?"),
            ({"host": CANARY}, "host: no such key"),
            ({"table": "sales"}, "table: no such key"),
            ({"columns": {"brand": "a b"}}, "is not a plain column name"),
            ({"columns": {"brand": "a.b.c.d.e.f.g.h.i"}}, "is not a plain column name"),
        ],
    )
    def test_what_is_wrong_with_an_api_is_named_by_key_and_rule(self, changes: dict[str, object], rule: str) -> None:
        """I2"""
        document = {key: value for key, value in {**API, **changes}.items() if value is not ...}
        with pytest.raises(SettingInvalid) as failure:
            parse_source_config(NAME, json.dumps(document))
        assert rule in str(failure.value)
        _assert_no_canary(failure.value)

    def test_an_api_on_this_machine_needs_no_tls(self) -> None:
        for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
            text = json.dumps({**API, "url": f"http://{host}/{{from}}/{{to}}"})
            assert isinstance(parse_source_config(NAME, text), ApiConfig)

    def test_a_null_table_is_the_default_table(self) -> None:
        assert parse_source_config(NAME, _text(table=None)).mapping == SourceMapping()


class TestRead:
    def test_a_secure_string_is_read_and_decrypted(self, aws: AwsClients) -> None:
        ssm = aws.client("ssm")
        ssm.put_parameter(Name=NAME, Value=_text(), Type="SecureString")
        assert read_source_config(ssm, NAME) == parse_source_config(NAME, _text())

    @pytest.mark.parametrize("text", [_text(), json.dumps(API)], ids=["password", "token"])
    def test_its_secret_is_removed_from_every_text_from_then_on(self, aws: AwsClients, text: str) -> None:
        """I4"""
        redact, told = Redaction(), f"the driver got {CANARY} of us"
        assert redact(told) == told
        ssm = aws.client("ssm")
        ssm.put_parameter(Name=NAME, Value=text, Type="SecureString")
        read_source_config(ssm, NAME)
        assert redact(told) == Redaction()(told) == "the driver got [redacted] of us"

    def test_a_parameter_that_is_not_there_says_what_to_store(self, aws: AwsClients) -> None:
        """I2"""
        with pytest.raises(SettingInvalid, match=f"{NAME}: not there; store host, port") as failure:
            read_source_config(aws.client("ssm"), NAME)
        assert "SecureString" in str(failure.value)

    def test_a_plain_string_is_refused(self, aws: AwsClients) -> None:
        """I2"""
        ssm = aws.client("ssm")
        ssm.put_parameter(Name=NAME, Value=_text(), Type="String")
        with pytest.raises(SettingInvalid, match="is a String; store it again as a SecureString") as failure:
            read_source_config(ssm, NAME)
        _assert_no_canary(failure.value)

    @pytest.mark.parametrize(
        "code,status,kind",
        [
            ("AccessDeniedException", 400, SettingInvalid),
            ("InvalidKeyId", 400, SettingInvalid),
            ("ThrottlingException", 400, SourceUnavailable),
            ("InternalServerError", 500, SourceUnavailable),
        ],
    )
    def test_a_refusal_is_final_and_an_outage_is_not(
        self, aws: AwsClients, code: str, status: int, kind: type[SalesIntelError]
    ) -> None:
        def refuse(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
            parsed = {"Error": {"Code": code, "Message": CANARY}, "ResponseMetadata": {"HTTPStatusCode": status}}
            return AWSResponse("", status, {}, io.BytesIO()), parsed

        ssm = aws.client("ssm")
        ssm.meta.events.register("before-call.ssm", refuse)
        with pytest.raises(kind, match=rf"{NAME}: {code} \(HTTP {status}") as failure:
            read_source_config(ssm, NAME)
        _assert_no_canary(failure.value)

    @pytest.mark.parametrize(
        "error,kind",
        [(ConnectTimeoutError(endpoint_url="http://ssm"), SourceUnavailable), (NoCredentialsError(), SettingInvalid)],
    )
    def test_no_network_is_an_outage_and_no_credentials_are_a_setting(
        self, aws: AwsClients, error: Exception, kind: type[SalesIntelError]
    ) -> None:
        def cut(**_: object) -> None:
            raise error

        ssm = aws.client("ssm")
        ssm.meta.events.register("before-call.ssm", cut)
        with pytest.raises(kind, match=type(error).__name__):
            read_source_config(ssm, NAME)


def _assert_no_canary(error: BaseException) -> None:
    """The canary is in no text that a log or Dagster's event would keep, and no chained error still holds it."""
    assert CANARY not in "".join(traceback.format_exception(error))
    chained: BaseException | None = error
    while chained is not None:
        assert CANARY not in str(vars(chained)) + str(chained.args)
        chained = None if chained.__suppress_context__ else chained.__context__
