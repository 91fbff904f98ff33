"""A MariaDB (or MySQL) of the tests' own: loopback, a user with a password, TLS where openssl makes certificates."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql

from salesintel_dagster.domain.source import ConnectionParameters
from salesintel_dagster.local.processes import Child
from salesintel_dagster_tests.certificates import Authority

MISSING = "neither mariadbd nor mysqld is on PATH"
USER = "shop"


def program() -> str | None:
    return shutil.which("mariadbd") or shutil.which("mysqld")


@dataclass(frozen=True, slots=True)
class MariaDb:
    """`admin` may do everything; `authority` signed the server's certificate for 127.0.0.1 and no other name."""

    admin: ConnectionParameters
    authority: Authority | None

    def new_database(self) -> ConnectionParameters:
        name = f"test_{secrets.token_hex(6)}"
        self.run(self.admin, f"CREATE DATABASE {name} CHARACTER SET latin1")
        return replace(self.admin, database=name)

    @staticmethod
    def run(at: ConnectionParameters, statement: str, rows: Sequence[Sequence[Any]] | None = None) -> None:
        words: dict[str, Any] = {"host": at.host, "port": at.port, "user": at.username, "password": at.password}
        with (
            pymysql.connect(
                **words, database=at.database, charset="utf8mb4", autocommit=True, ssl_disabled=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SET time_zone = '+00:00'")
            if rows is None:
                cursor.execute(statement)
            else:
                cursor.executemany(statement, rows)


def initialise(home: Path, port: int) -> tuple[MariaDb, Child]:
    """Make a server's files under `home`; the child is to be started."""
    server = program()
    assert server is not None
    data, password = home / "data", secrets.token_urlsafe(16)
    _make_files(server, data)
    first = home / "init.sql"
    first.write_text(
        f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\nCREATE DATABASE shop;\n"
    )
    authority = Authority(home) if shutil.which("openssl") else None
    options = {
        "datadir": str(data),
        "port": str(port),
        "bind-address": "127.0.0.1",
        "socket": str(home / "socket"),
        "pid-file": str(home / "pid"),
        "init-file": str(first),
        "innodb-buffer-pool-size": "64M",
        "innodb-flush-log-at-trx-commit": "0",
    }
    if authority is not None:
        certificate = authority.signed("server", "IP:127.0.0.1")
        options |= {"ssl-cert": str(certificate.chain), "ssl-key": str(certificate.key)}
    admin = ConnectionParameters("127.0.0.1", "shop", USER, password, port)
    words = ["--skip-name-resolve", *_as_root(), *(f"--{name}={value}" for name, value in options.items())]
    child = Child(
        name="mariadb",
        argv=(server, "--no-defaults", *words),
        environment={"PATH": os.environ["PATH"], "TZ": "Pacific/Auckland"},
        log=home / "log",
        ready=lambda: _is_ready(admin),
        stop_signal=signal.SIGTERM,
        death_signal=signal.SIGKILL,
    )
    return MariaDb(admin, authority), child


def _make_files(server: str, data: Path) -> None:
    installer = shutil.which("mariadb-install-db")
    if installer is not None:
        words = [installer, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        words += ["--skip-test-db", *_as_root()]
    else:
        words = [server, "--no-defaults", f"--datadir={data}", "--initialize-insecure", *_as_root()]
    subprocess.run(words, check=True, capture_output=True)


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _is_ready(admin: ConnectionParameters) -> bool:
    try:
        MariaDb.run(admin, "SELECT 1")
    except pymysql.MySQLError:
        return False
    return True
