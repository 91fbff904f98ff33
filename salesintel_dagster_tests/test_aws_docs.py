"""docs/aws.md is done as it is written: its shell blocks in a shell, its files, against the emulator."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure_request import template
from salesintel_dagster.adapters.source_config import DatabaseConfig, parse_source_config
from salesintel_dagster.local.source_table import CREATE_TABLE
from salesintel_dagster.settings import Settings
from salesintel_dagster_tests import services as running
from salesintel_dagster_tests.command_line import call
from salesintel_dagster_tests.doctor.wards import SHIPPED
from salesintel_dagster_tests.fakes.sales_table import sale_rows
from salesintel_dagster_tests.lakes import DAY, RUN, rows
from salesintel_dagster_tests.local.stand_ins import stand_in

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "aws.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w-]+\.(?:json|yaml|env))`[^`]{0,80}:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = dict(FILE.findall(PAGE))
SHELL = [body for kind, body in BLOCK.findall(PAGE) if kind == "sh"]
DAY_OF_PAGE = "2026-11-20"
ACTION = re.compile(r"[a-z0-9]+:[A-Z][A-Za-z]+")


def test_every_block_of_the_page_is_used_by_this_module():
    kinds = [kind for kind, _ in BLOCK.findall(PAGE)]
    policies = {"s3-tables-policy.json", "launcher-policy.json"}
    assert set(FILES) == {"smartgo.json", "s3-tables.env", "dagster.yaml", *policies}
    assert len(kinds) == len(SHELL) + len(FILES)


@dataclass(frozen=True, slots=True)
class Done:
    """What the page's shell blocks did."""

    out: str
    stage: str
    clients: AwsClients


def of_stage(text: str, stage: str, account: str) -> str:
    """Return a text of the page for a stage and an account of our own: bucket names are global in the emulator, too."""
    return re.sub(r"\bprod\b", stage, text).replace("123456789012", account)


@pytest.fixture(scope="module")
def done(services: running.Services, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Everything that the page says to type, in one shell; the only other things are endpoints and the database."""
    folder, stage = tmp_path_factory.mktemp("aws-page"), f"t{secrets.token_hex(4)}"
    clients = AwsClients(services.aws.new_target())
    account = clients.target.access_key_id or ""
    dsn = services.postgres.new_database()
    seed(dsn)
    (folder / "smartgo.json").write_text(json.dumps(json.loads(FILES["smartgo.json"]) | place(dsn)))
    (folder / "dagster.yaml").write_text(of_stage(FILES["dagster.yaml"], stage, account))
    python, prelude = shlex.quote(sys.executable), "set -e\n"
    prelude += f'python() {{ {python} "$@"; }}\nsalesintel() {{ {python} -m salesintel_dagster "$@"; }}\n'
    target = clients.target
    with stand_in("titan_server") as titan:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": titan,
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
            "DAGSTER_POSTGRES_URL": services.postgres.new_database().replace("://", "+psycopg2://"),
        }
        ran = subprocess.run(
            ["bash", "-c", prelude + of_stage("\n".join(SHELL), stage, account)],  # noqa: S607 - bash from the PATH
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Done(ran.stdout, stage, clients)


def place(dsn: str) -> dict[str, object]:
    parts = conninfo_to_dict(dsn)
    names = {"host": "host", "dbname": "database", "user": "username", "password": "password"}
    found: dict[str, object] = {ours: parts[theirs] for theirs, ours in names.items()}
    return found | {"port": int(parts["port"]), "sslmode": "prefer"}


def seed(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(CREATE_TABLE)
        connection.execute(
            "INSERT INTO sales (sale_id, product_id, category, sold_price, currency, sold_at)"
            " SELECT 'S' || n, 'P' || n, 'dress', 10 + n, 'EUR', %s::timestamptz FROM generate_series(1, 3) n",
            (f"{DAY_OF_PAGE}T12:00:00Z",),
        )


@pytest.mark.slow
class TestAsItIsWritten:
    def test_the_stack_is_told_then_made(self, done: Done) -> None:
        assert f"stack salesintel-{done.stage} does not exist yet" in done.out
        assert f"stack salesintel-{done.stage} created in" in done.out

    def test_the_doctor_finds_all_well(self, done: Done) -> None:
        assert "\nfail" not in done.out
        assert "nothing was paid" in done.out
        assert "made a vector of 1024 values" in done.out
        assert f"salesintel-alerts-{done.stage} took a test alert" in done.out

    def test_the_first_day_is_in_the_table(self, done: Done) -> None:
        assert f"{DAY_OF_PAGE}  SUCCEEDED" in done.out
        assert re.search(r"\nsales\n +3\n", done.out)

    def test_the_ecs_instance_is_loaded_with_its_launcher_its_storage_and_its_logs(self, done: Done) -> None:
        assert "telemetry off; PostgresRunStorage, EcsRunLauncher, S3ComputeLogManager" in done.out

    def test_the_logs_of_a_run_land_in_the_bucket(self, done: Done) -> None:
        s3, bucket = done.clients.client("s3"), f"carousel-{done.stage}-analytics"
        found = s3.list_objects_v2(Bucket=bucket, Prefix="dagster/compute-logs/storage/")["Contents"]
        logs = b"".join(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found)
        assert f"[SmartGoExporter] Export complete tenant=carousel-labs partition={DAY_OF_PAGE}".encode() in logs


def test_the_databases_file_is_one_that_we_take():
    config = parse_source_config("smartgo.json", FILES["smartgo.json"])
    assert isinstance(config, DatabaseConfig)
    assert (config.connection.sslmode, config.mapping.tenant) == ("verify-full", "carousel-labs")


def test_the_ecs_instance_keeps_what_the_shipped_one_is_safe_by():
    ours, shipped = yaml.safe_load(FILES["dagster.yaml"]), yaml.safe_load(SHIPPED.read_text())
    assert {name: ours[name] for name in shipped} == shipped
    assert set(ours) - set(shipped) == {"storage", "compute_logs", "run_launcher"}
    told = re.findall(r"^export (.+)$", PAGE, re.MULTILINE)
    exported = {word.partition("=")[0] for line in told for word in line.split() if "=" in word}
    not_the_runs = {"DAGSTER_CURRENT_IMAGE", "SALESINTEL_ALERT_TOPIC_ARN"}
    assert set(ours["run_launcher"]["config"]["env_vars"]) == exported - not_the_runs


def test_s3_tables_by_the_pages_settings_takes_a_day(aws: AwsClients):
    arn = aws.client("s3tables").create_table_bucket(name=f"page-{secrets.token_hex(4)}")["arn"]
    read = dict(line.split("=", 1) for line in FILES["s3-tables.env"].splitlines())
    target = aws.target
    environment = read | {
        "SALESINTEL_MODE": "aws",
        "SALESINTEL_CATALOG_URI": f"{target.endpoint_url}/iceberg",
        "SALESINTEL_WAREHOUSE": arn,
        "AWS_ENDPOINT_URL": target.endpoint_url or "",
        "AWS_ACCESS_KEY_ID": target.access_key_id or "",
        "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
    }
    first = call("doctor", "iceberg", environment=environment)
    assert "catalog rest answers; its first writer makes the table" in first.out
    settings = Settings.from_environment(environment)
    from salesintel_dagster.local.world_environment import overlaid  # noqa: PLC0415 - Postgres, the emulator

    with overlaid(environment):
        wiring.sales_table(settings).replace_day(DAY, rows(sale_rows(DAY, 2)), RUN, allow_empty=False)
    assert "the layout is ours, 1 snapshots" in call("doctor", "iceberg", environment=environment).out


@pytest.mark.parametrize("name", ["s3-tables-policy.json", "launcher-policy.json"])
def test_a_policy_of_the_page_has_no_wildcard_in_an_action(name: str):
    for statement in json.loads(FILES[name])["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert all(ACTION.fullmatch(action) for action in actions)


def test_every_policy_of_the_template_is_given_to_a_component():
    named = re.findall(r"^  (\w+):\n    Type: AWS::IAM::ManagedPolicy$", template(), re.MULTILINE)
    assert len(named) > 3
    table = PAGE.split("## 7. Who may do what")[1].split("## 8.")[0]
    assert [name for name in named if f"`{name}`" not in table] == []
