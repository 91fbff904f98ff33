"""What every test gets: fake AWS credentials, loopback-only sockets, and real servers on request."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

from salesintel_dagster.domain import redaction
from salesintel_dagster.settings import Settings, variable_of

if TYPE_CHECKING:  # boto3, Postgres and the embedded world are for the tests that ask for them
    from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
    from salesintel_dagster_tests.mariadb import MariaDb
    from salesintel_dagster_tests.services import PostgresService, Services

FAKE_AWS = {
    "AWS_ACCESS_KEY_ID": "111111111111",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


SHARED_MEMORY = "/dev/shm"
ROOM_BYTES = 4 * 2**30
"""The largest test writes half of one (100,000 vectors); what a test wrote goes with it."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget the developer's own AWS, settings and proxies before any test or import can read them."""
    _temporary_files_into_memory(config)
    ours = {variable_of(name) for name in Settings.model_fields}
    for name in list(os.environ):
        if name in ours or name.startswith(("AWS_", "SALESINTEL_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(FAKE_AWS)
    # An example's wall time is the machine's: 200 ms were exceeded by other work on the same two cores.
    hypothesis_settings.register_profile("shared-machine", deadline=None)
    hypothesis_settings.register_profile("quick", deadline=None, max_examples=10)
    hypothesis_settings.load_profile("shared-machine")


def _temporary_files_into_memory(config: pytest.Config) -> None:
    """Keep temporary files in memory where Linux offers it: a commit of SQLite waits 16 ms for a disk, here 0.04.

    Nothing here cuts the power: what a killed process has written is there on either.
    """
    if "TMPDIR" in os.environ or not Path(SHARED_MEMORY).is_dir():
        return
    room = os.statvfs(SHARED_MEMORY)
    if room.f_bavail * room.f_frsize < ROOM_BYTES or room.f_flag & os.ST_NOEXEC:  # Postgres may be started from there
        return
    folder = Path(tempfile.mkdtemp(prefix="salesintel-tests-", dir=SHARED_MEMORY))
    folder.chmod(0o711)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first: workers take whole files, and the last ones must be short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuse every connection and every name look-up that leaves this machine, in this process."""
    patch = pytest.MonkeyPatch()
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host: object, opened: socket.socket | None = None) -> None:
        if isinstance(host, str | bytes) and not _is_loopback(os.fsdecode(host)):
            if opened is not None:
                opened.close()
            raise AssertionError(f"a test tried to reach {host!r}: tests stay on this machine")

    def guarded(self: socket.socket, address: Any) -> None:  # noqa: ANN401 - any family's address
        check(address[0] if isinstance(address, tuple) else None, self)
        return connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:  # noqa: ANN401 - same
        check(address[0] if isinstance(address, tuple) else None, self)
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *words: Any, **named: Any) -> Any:  # noqa: ANN401 - same
        check(host)
        return getaddrinfo(host, *words, **named)

    patch.setattr(socket.socket, "connect", guarded)
    patch.setattr(socket.socket, "connect_ex", guarded_ex)
    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the source's password after each test: `learn` is for the life of a process."""
    monkeypatch.setattr(redaction._Learnt, "secrets", frozenset())


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look at an empty shelf not wait its second: the emulator is one server, and tells all it has at once."""
    from salesintel_dagster.adapters import shelves  # noqa: PLC0415 - the quick loop calls no AWS
    from salesintel_dagster.flows.enrichment import retry  # noqa: PLC0415 - same

    monkeypatch.setattr(shelves, "LOOK_SECONDS", 0)
    monkeypatch.setattr(retry, "LONG_POLL_SECONDS", 0)


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    from salesintel_dagster_tests import services as real  # noqa: PLC0415 - the quick loop starts no server

    with real.aws_models_read_once(), real.services() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres(services: Services) -> PostgresService:
    return services.postgres


@pytest.fixture(scope="session")
def mariadb(services: Services) -> MariaDb:
    return services.mariadb


@pytest.fixture
def aws(services: Services) -> AwsClients:
    return services.aws.new_clients()


@pytest.fixture
def aws_target(aws: AwsClients) -> AwsTarget:
    return aws.target


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
