"""What the embedded world's servers hold before anybody seeds a sale: databases, infrastructure, configuration.

Every step may be repeated; a joining process with another stage or tenant repeats them for its own.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.local.emulator import ACCOUNT
from salesintel_dagster.local.ports import LOOPBACK
from salesintel_dagster.local.postgres import Postgres
from salesintel_dagster.local.world_environment import BEDROCK_REGION, CATALOG_DATABASE, REGION, SMARTGO_DATABASE
from salesintel_dagster.local.world_files import Memory
from salesintel_dagster.settings import Settings

READER = "smartgo_reader"
SALES_TABLE = "sales"
DEPLOY_SECONDS = 60.0
"""The emulator takes 0.3 s; a stack that was cut off in the middle must not hold a start for long."""


def furnish(postgres: Postgres, memory: Memory, settings: Settings) -> None:
    """Make databases and the reading role, deploy the infrastructure, put the SmartGo configuration into SSM.

    The process environment must be the world's (`overlaid`): a proxy or an AWS profile of the user's would be used.
    """
    clients = AwsClients(
        AwsTarget(
            region=REGION,
            bedrock_region=BEDROCK_REGION,
            endpoint_url=f"http://{LOOPBACK}:{memory.ports['emulator']}",
            access_key_id=ACCOUNT,
            secret_access_key=ACCOUNT,
        )
    )
    with ThreadPoolExecutor(2) as threads:
        databases = threads.submit(_make_databases, postgres, memory)
        _deploy(clients, memory, settings)
        databases.result()


def follow_images(postgres: Postgres, old_port: int, new_port: int) -> None:
    """Let the sales' image URLs follow the image host to its new port."""
    old, new = (f"http://{LOOPBACK}:{port}/" for port in (old_port, new_port))
    with psycopg.connect(postgres.dsn(SMARTGO_DATABASE)) as connection:
        if connection.execute("SELECT to_regclass(%s)", [SALES_TABLE]).fetchone() == (None,):
            return
        connection.execute(
            "UPDATE sales SET image_url = %s || substr(image_url, %s) WHERE starts_with(image_url, %s)",
            [new, len(old) + 1, old],
        )


def _make_databases(postgres: Postgres, memory: Memory) -> None:
    for name in (SMARTGO_DATABASE, CATALOG_DATABASE):
        postgres.ensure_database(name)
    postgres.ensure_reader(READER, memory.reader_password, SMARTGO_DATABASE)


def _deploy(clients: AwsClients, memory: Memory, settings: Settings) -> None:
    from salesintel_dagster.adapters.infrastructure import deploy  # noqa: PLC0415 - costs start-up time
    from salesintel_dagster.adapters.infrastructure_request import Choices  # noqa: PLC0415 - same

    deploy(
        clients,
        settings.stage,
        on_event=lambda _line: None,
        choices=Choices(object_key_arn=settings.kms_key_arn),
        deadline_seconds=DEPLOY_SECONDS,
    )
    config = {
        "host": LOOPBACK,
        "port": memory.ports["postgres"],
        "database": SMARTGO_DATABASE,
        "username": READER,
        "password": memory.reader_password,
        "sslmode": "disable",
        "mapping": {
            "table": SALES_TABLE,
            "tenant": settings.tenant,
            "tenants": [settings.tenant],
            "columns": {"recorded_at": "recorded_at"},
        },
    }
    clients.client("ssm").put_parameter(
        Name=settings.smartgo_parameter, Value=json.dumps(config), Type="SecureString", Overwrite=True
    )
