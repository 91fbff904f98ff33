"""The kind in the SSM parameter chooses the source that the export reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.rest_sales import RestSource
from salesintel_dagster.adapters.smartgo import SmartGoSource
from salesintel_dagster.adapters.source_config import KINDS
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.rest_source import RestMapping, RestParameters
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import export_rules
from salesintel_dagster.wiring.sources import sale_source
from salesintel_dagster_tests.fakes.spend import InMemorySpendLedger

ROOT = Path(__file__).resolve().parents[1]
DATABASE = {"host": "db.example", "port": 1, "database": "d", "username": "u", "password": "canary", "tenant": "one"}
API = {"url": "https://api.example/{from}/{to}", "token": "canary", "tenant": "one"}
WITHOUT_DRIVER = """
import sys
sys.modules["pymysql"] = None
from salesintel_dagster.adapters.source_config import parse_source_config
from salesintel_dagster.wiring.sources import source_of
source_of(parse_source_config("the parameter", sys.argv[1]), "EUR")
"""


def _store(aws: AwsClients, config: dict[str, object]) -> Settings:
    settings = Settings()
    aws.client("ssm").put_parameter(
        Name=settings.smartgo_parameter, Value=json.dumps(config), Type="SecureString", Overwrite=True
    )
    return settings


def test_each_kind_makes_its_source(aws: AwsClients):
    mysql = pytest.importorskip("salesintel_dagster.adapters.mysql")
    kinds = {"postgres": (DATABASE, SmartGoSource), "mysql": (DATABASE, mysql.MySqlSource), "rest": (API, RestSource)}
    for kind, (config, made) in kinds.items():
        source = sale_source(_store(aws, {**config, "kind": kind}), aws)
        assert type(source) is made
        assert source.rules.tenants == {"one"}
        assert source.rules.default_currency == "EUR"
    assert type(sale_source(_store(aws, DATABASE), aws)) is SmartGoSource


def test_an_unknown_kind_names_those_that_are_known_and_nothing_of_the_secret(aws: AwsClients):
    """I2."""
    settings = _store(aws, {**DATABASE, "kind": "canary"})
    with pytest.raises(SettingInvalid, match="kind: expected one of postgres, mysql, rest") as caught:
        sale_source(settings, aws)
    assert "canary" not in str(caught.value)


def test_mysql_without_its_driver_says_what_to_install():
    """In a process of its own: this one has the driver."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DRIVER, json.dumps({**DATABASE, "kind": "mysql"})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SettingInvalid: a source of kind mysql needs the [mysql] extra: pip install" in done.stderr
    assert "canary" not in done.stderr


def test_the_settings_say_how_often_and_how_long_a_day_is_read():
    rules = export_rules(Settings(source_retries=7, source_deadline_seconds=60), InMemorySpendLedger())
    assert (rules.source.retries, rules.source.deadline_seconds) == (7, 60)


def test_the_document_names_every_kind_and_every_key():
    text = (ROOT / "docs" / "settings.md").read_text().partition("## The source")[2]
    described = (ConnectionParameters, RestParameters, SourceMapping, RestMapping)
    keys = {each.name for kind in described for each in fields(kind)} | set(KINDS)
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]
