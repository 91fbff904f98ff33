"""Real servers for tests: started when first asked for, on loopback and free ports, gone with the test process."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.local.emulator import Emulator
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.postgres import Postgres, postgres_in
from salesintel_dagster.local.processes import Child, Supervisor
from salesintel_dagster_tests.mariadb import MISSING, MariaDb, initialise, program

START_SECONDS = 60.0
REGION = "eu-west-1"
BEDROCK_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class PostgresService:
    """The session's Postgres."""

    server: Postgres

    def new_database(self) -> str:
        """Create a fresh database and return its URI, user and password included."""
        name = f"test_{secrets.token_hex(6)}"
        self.server.ensure_database(name)
        return self.server.dsn(name)


@dataclass(frozen=True, slots=True)
class AwsService:
    """The session's AWS emulator."""

    server: Emulator

    def new_target(self) -> AwsTarget:
        """Return a target in an account of its own. Bucket names are global: put something random in them."""
        account = str(secrets.randbelow(9 * 10**11) + 10**11)
        return AwsTarget(
            region=REGION,
            bedrock_region=BEDROCK_REGION,
            endpoint_url=self.server.endpoint_url,
            access_key_id=account,
            secret_access_key=account,
        )

    def new_clients(self) -> AwsClients:
        """Return clients of a new target."""
        return AwsClients(self.new_target())


class Services:
    """The session's servers under one supervisor."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._supervisor = Supervisor(on_event=print)

    @cached_property
    def postgres(self) -> PostgresService:
        home = self._home / "pg"
        home.mkdir(mode=0o711)
        server = postgres_in(home, lambda: home, free_port(), secrets.token_urlsafe(24), durable=False)
        server.initialise()
        self._start(server.child(self._home / "postgres.log"))
        return PostgresService(server)

    @cached_property
    def aws(self) -> AwsService:
        server = Emulator(self._home / "aws", free_port(), REGION, persistent=False)
        self._start(server.child(self._home / "emulator.log"))
        return AwsService(server)

    @cached_property
    def mariadb(self) -> MariaDb:
        if program() is None:
            pytest.skip(MISSING)
        home = self._home / "mariadb"
        home.mkdir()
        server, child = initialise(home, free_port())
        self._start(child)
        return server

    def stop(self) -> None:
        self._supervisor.stop()

    def _start(self, child: Child) -> None:
        self._supervisor.start([child], START_SECONDS)


@contextmanager
def aws_models_read_once() -> Iterator[None]:
    """Let all of botocore's sessions share what they read of its own files, as the clients of one session do.

    Hundreds of tests have a session of their own, and each walks 400 folders and parses megabytes of JSON.
    """
    patch = pytest.MonkeyPatch()
    made, kept = Loader.__init__, dict[Any, Any]()

    def sharing(self: Loader, *words: Any, **named: Any) -> None:  # noqa: ANN401 - whatever it takes
        made(self, *words, **named)
        self._cache = kept

    patch.setattr(Loader, "__init__", sharing)
    yield
    patch.undo()


@contextmanager
def services() -> Iterator[Services]:
    """Open the session's servers; they and their folder are gone at the end, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="salesintel-tests-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o711)
        opened = Services(home)
        try:
            yield opened
        finally:
            opened.stop()
