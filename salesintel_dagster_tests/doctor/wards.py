"""A whole deployment for the doctor to look at: MODE=aws on the emulator, a real Postgres, the Titan stand-in."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.infrastructure import deploy
from salesintel_dagster.local.source_table import CREATE_TABLE
from salesintel_dagster_tests.command_line import Answer, call

SHIPPED = Path(__file__).resolve().parents[2] / "salesintel_dagster" / "dagster.yaml"


@dataclass
class Ward:
    """One deployed stage. `parameter` is what the SSM parameter holds; `environment` what the command gets."""

    clients: AwsClients
    dsn: str
    titan_url: str
    folder: Path
    stage: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self.resources = dict(deploy(self.clients, self.stage, lambda _: None).resources)
        with psycopg.connect(self.dsn) as connection:
            connection.execute(CREATE_TABLE)
        parts = conninfo_to_dict(self.dsn)
        self.parameter: dict[str, Any] = {
            "host": parts["host"],
            "port": int(parts["port"]),
            "database": parts["dbname"],
            "username": parts["user"],
            "password": parts["password"],
            "tenant": "carousel-labs",
            "columns": {"tenant_id": None},
        }
        self.store_parameter()
        home = self.folder / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(SHIPPED.read_text())
        target = self.clients.target
        self.environment = {
            "SALESINTEL_MODE": "aws",
            "STAGE": self.stage,
            "AWS_ENDPOINT_URL": target.endpoint_url or "",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.titan_url,
            "AWS_ACCESS_KEY_ID": target.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": target.secret_access_key or "",
            "SALESINTEL_CATALOG": "glue",
            "SALESINTEL_ALERT_TOPIC_ARN": self.resources["AlertsTopic"],
            "DAGSTER_HOME": str(home),
        }

    @property
    def name(self) -> str:
        return f"/tf/{self.stage}/smartgo/database/config"

    def store_parameter(self, text: str | None = None, **changes: object) -> None:
        value = text or json.dumps(self.parameter | changes)
        self.clients.client("ssm").put_parameter(Name=self.name, Value=value, Type="SecureString", Overwrite=True)

    def doctor(self, *arguments: str, **environment: str) -> Told:
        """Run the command in this process; `environment` is laid over the ward's."""
        answer = call("doctor", *arguments, "--json", environment=self.environment | environment)
        return Told(answer)


@dataclass(frozen=True, slots=True)
class Told:
    """What the doctor said."""

    answer: Answer

    @property
    def found(self) -> dict[str, dict[str, Any]]:
        assert self.answer.out, self.answer.err
        return {one["name"]: one for one in self.answer.json}

    @property
    def ill(self) -> list[str]:
        """The checks that failed."""
        return [name for name, one in self.found.items() if one["health"] == "fail"]

    def says(self, name: str) -> str:
        one = self.found[name]
        return f"{one['health']}: {one['found']} -> {one['remedy']}"
