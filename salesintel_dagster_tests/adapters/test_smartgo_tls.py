"""I7: whom a Postgres must prove to be; I3: no refusal holds a piece of the password.

A real server with TLS where one is installed, and TLS before ours anywhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from salesintel_dagster.adapters.smartgo import SmartGoSource, connection_from_dsn
from salesintel_dagster.domain.calendar import day_window
from salesintel_dagster.domain.errors import SourceRefused, SourceSchemaMismatch
from salesintel_dagster.domain.source import ConnectionParameters, SourceMapping
from salesintel_dagster.local.ports import free_port
from salesintel_dagster.local.postgres import Postgres, postgres_in
from salesintel_dagster.local.processes import Supervisor
from salesintel_dagster_tests.certificates import Authority, Certificate
from salesintel_dagster_tests.fakes.source import TENANT
from salesintel_dagster_tests.services import START_SECONDS, PostgresService
from salesintel_dagster_tests.wires import wire

WINDOW = day_window(date(2026, 11, 3), ZoneInfo("UTC"))
ADDRESS_ONLY = "IP:127.0.0.1"
"""A certificate for it is good for 127.0.0.1 and, on the same server, for another name than localhost."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@dataclass(frozen=True, slots=True)
class TlsServer:
    """`connection` is right in all: authority, name, user. `dsn` is the way in without TLS, if there is one."""

    connection: ConnectionParameters
    kind: str


def _verified(dsn: str, port: int, authority: Authority) -> ConnectionParameters:
    direct = replace(connection_from_dsn(dsn), port=port)
    return replace(direct, sslmode="verify-full", sslrootcert=str(authority.file))


def _server_with_tls() -> Path:
    """Return the folder of a Postgres that was built with OpenSSL; the embedded one is not."""
    found = shutil.which("postgres")
    if found is None or b"SSL_CTX_new" not in Path(found).resolve().read_bytes():
        pytest.skip("no Postgres with TLS on PATH; the embedded one has none")
    return Path(found).resolve().parent


def _start(folder: Path, certificate: Certificate, supervisor: Supervisor) -> Postgres:
    ours = postgres_in(folder, lambda: folder, free_port(), "hunter2-canary", durable=False)
    server = replace(ours, binaries=_server_with_tls())
    server.initialise()
    with (server.data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n")
    for source, name in ((certificate.key, "server.key"), (certificate.chain, "server.pem")):
        target = Path(shutil.copy(source, server.data / name))
        target.chmod(0o600)
        if server.user is not None:
            os.chown(target, server.user.uid, server.user.gid)
    supervisor.start([server.child(folder / "log")], START_SECONDS)
    return server


@pytest.fixture(scope="module", params=["server", "front"])
def server(
    request: pytest.FixtureRequest,
    postgres: PostgresService,
    authority: Authority,
) -> Iterator[TlsServer]:
    good = authority.signed("good", ADDRESS_ONLY)
    if request.param == "front":
        dsn = postgres.new_database()
        with wire(connection_from_dsn(dsn).port, good.server_context()) as line:
            yield TlsServer(_verified(dsn, line.port, authority), "front")
        return
    _server_with_tls()
    with tempfile.TemporaryDirectory(prefix="salesintel-tests-", ignore_cleanup_errors=True) as name:
        folder = Path(name)  # not below pytest's own, which nobody but root may enter
        folder.chmod(0o711)
        supervisor = Supervisor(on_event=print)
        try:
            dsn = _start(folder, good, supervisor).dsn()
            yield TlsServer(_verified(dsn, connection_from_dsn(dsn).port, authority), "server")
        finally:
            supervisor.stop()


def _ask(connection: ConnectionParameters) -> None:
    """Ask for a table that is not there: the answer comes from within."""
    source = SmartGoSource(connection, SourceMapping(table="nowhere", tenant=TENANT), "EUR")
    source.fingerprint(WINDOW)


def _refusal(connection: ConnectionParameters) -> str:
    with pytest.raises(SourceRefused) as caught:
        _ask(connection)
    told = "".join(traceback.format_exception(caught.value)).partition("SourceRefused: ")[2] + repr(caught.value)
    assert connection.password not in told
    return str(caught.value).partition(": ")[2]


def test_the_right_authority_and_the_right_name_let_us_in(server: TlsServer):
    """I7."""
    with pytest.raises(SourceSchemaMismatch, match="no table nowhere"):
        _ask(server.connection)


def test_the_connection_is_encrypted(server: TlsServer):
    """I7."""
    if server.kind == "front":
        pytest.skip("the server behind the front does not see its TLS")
    query = "(SELECT count(*)::text FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid())"
    text = f"SELECT {query} AS sale_id, 'p' AS product_id, 'c' AS category, 1 AS sold_price, now() AS sold_at"
    everything = dict.fromkeys(("brand", "condition", "currency", "image_url"))
    mapping = SourceMapping(table=None, query=text, columns=everything, tenant=TENANT)
    today = day_window(date.today(), ZoneInfo("UTC"))  # noqa: DTZ011 - the row says now(); a day is long enough
    with SmartGoSource(server.connection, mapping, "EUR").read(today) as day:
        rows = [row for block in day.rows for row in block]
    assert [row["sale_id"] for row in rows] == ["1"]


def test_another_authority_is_refused(server: TlsServer, tmp_path: Path):
    """I7."""
    other = Authority(tmp_path)
    assert _refusal(replace(server.connection, sslrootcert=str(other.file))) == (
        "the server's certificate is not trusted"
    )


def test_without_a_named_authority_the_systems_own_are_asked(
    server: TlsServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """I7: they know nothing of ours, until it is one of them."""
    unnamed = replace(server.connection, sslrootcert=None)
    assert _refusal(unnamed) == "the server's certificate is not trusted"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with pytest.raises(SourceSchemaMismatch, match="no table nowhere"):
        _ask(unnamed)


def test_a_certificate_for_another_name_is_refused(server: TlsServer):
    """I7."""
    assert _refusal(replace(server.connection, host="localhost")) == "the server's certificate is for another name"


def test_a_certificate_that_signed_itself_is_refused(postgres: PostgresService, authority: Authority):
    """I7."""
    dsn = postgres.new_database()
    itself = authority.self_signed("itself", ADDRESS_ONLY)
    with wire(connection_from_dsn(dsn).port, itself.server_context()) as line:
        assert _refusal(_verified(dsn, line.port, authority)) == "the server's certificate is not trusted"
        assert connection_from_dsn(dsn).username.encode() not in line.said, "it was told who we are"


def test_a_server_without_tls_is_refused_before_it_is_told_who_we_are(postgres: PostgresService, authority: Authority):
    """I7."""
    dsn = postgres.new_database()
    with wire(connection_from_dsn(dsn).port) as line:
        assert _refusal(_verified(dsn, line.port, authority)) == "the server and we do not agree on TLS"
        assert connection_from_dsn(dsn).username.encode() not in line.said


def test_a_file_of_authorities_that_is_not_there_is_told(server: TlsServer):
    missing = replace(server.connection, sslrootcert="/nowhere/ca.pem")
    assert _refusal(missing) == "the file of trusted certificates (sslrootcert) cannot be read"


def test_the_environment_leads_to_no_other_server(postgres: PostgresService, monkeypatch: pytest.MonkeyPatch):
    """I6: libpq would take these for what the configuration leaves open."""
    connection = connection_from_dsn(postgres.new_database())
    for name, value in (("PGHOSTADDR", "127.0.0.9"), ("PGSSLMODE", "verify-full"), ("PGGSSENCMODE", "require")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceSchemaMismatch, match="no table nowhere"):
        _ask(connection)
