"""The embedded world's state folder: what is where, what is remembered, and who may run it.

Two locks make a second start safe. `lock` is held by the one process that runs the world. `children.lock` is
inherited by its children, so that after a SIGKILL the next start waits until the last of them has let go of the data.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import WorldError

FOLDERS = ("aws", "aws-client", "dagster", "images", "logs")
OUTSIDE = Path("/var/tmp")  # noqa: S108 - our folder in it is made by us alone, see `reach`
JOINERS = "joiners.lock"
POLL_SECONDS = 0.05


def unusable(home: Path, error: OSError) -> WorldError:
    """Return what to tell of a home that cannot be written, with a way out."""
    return WorldError(
        f"{home}: the embedded world cannot keep its state here ({error.strerror}); "
        "set SALESINTEL_HOME to a folder that can be written"
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """What a world remembers between starts. Holds passwords: its file is 0600."""

    world_id: str
    password: str = field(repr=False)
    reader_password: str = field(repr=False)
    ports: Mapping[str, int] = field(default_factory=dict)


class WorldFiles:
    """The folder `home` and what lies in it."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    def prepare(self) -> None:
        """Make the folders. Raises WorldError with a way out where that is not possible."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() == 0:
                self.home.chmod(self.home.stat().st_mode | stat.S_IXOTH)  # nobody passes through to Postgres' data
            for name in FOLDERS:
                (self.home / name).mkdir(mode=0o700, exist_ok=True)
            (self.home / "lock").touch(mode=0o600)
        except OSError as error:
            raise unusable(self.home, error) from error

    def log(self, name: str) -> Path:
        """Return the log file of child `name`."""
        return self.home / "logs" / f"{name}.log"

    def recall(self) -> Memory:
        """Return what the world remembers; a new world gets an id and passwords. Raises WorldError if unreadable."""
        path = self.home / "world.json"
        try:
            return Memory(**json.loads(path.read_text()))
        except FileNotFoundError:
            words = (secrets.token_hex(8), secrets.token_urlsafe(24), secrets.token_urlsafe(24))
            return Memory(*words)
        except (ValueError, TypeError) as error:
            raise WorldError(f"{path}: not a world's memory ({error}); move {self.home} away to begin anew") from error

    def remember(self, memory: Memory) -> None:
        """Write the memory, whole or not at all."""
        self._write("world.json", asdict(memory))

    def announce(self, facts: Mapping[str, str]) -> None:
        """Tell other processes that the world is ready, and for what."""
        self._write("running.json", dict(facts))

    def announced(self) -> Mapping[str, str] | None:
        """Return what a running world announced, or None while none is ready."""
        try:
            facts: dict[str, str] = json.loads((self.home / "running.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return facts

    def withdraw(self) -> None:
        """Take the announcement back."""
        (self.home / "running.json").unlink(missing_ok=True)

    def try_lock(self, name: str) -> int | None:
        """Take a lock of the folder; return its file descriptor, or None where another process holds it."""
        descriptor = os.open(self.home / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Be known, as long as the block lasts, as a process that uses the world which another one runs."""
        descriptor = os.open(self.home / JOINERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def is_run_by(self, pid: str) -> bool:
        """Tell whether the process that announced the world still runs it; a killed one's announcement is withdrawn."""
        lock = self.try_lock("lock")
        if lock is None:
            facts = self.announced()
            return facts is None or facts["pid"] == pid
        self.withdraw()
        os.close(lock)
        return False

    def lock_children(self, clock: Clock, deadline_seconds: float) -> int:
        """Take the lock that children inherit, once the last child of a killed world has ended.

        Raises:
            WorldError: a child of before is still there at the deadline.
        """
        ends_at = clock.monotonic() + deadline_seconds
        while (descriptor := self.try_lock("children.lock")) is None:
            if clock.monotonic() >= ends_at:
                raise WorldError(f"{self.home}: a server of a world that was killed still runs; end it and try again")
            clock.sleep(POLL_SECONDS)
        return descriptor

    def reach(self, memory: Memory) -> Path:
        """Return the folder that `nobody` can reach, where Postgres lives when we are root and `home` is private.

        Raises:
            WorldError: a folder of that name is there and is not ours.
        """
        folder = OUTSIDE / f"salesintel-{memory.world_id}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o711)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise WorldError(f"{folder}: not ours; remove it and try again")
        folder.chmod(0o711)
        (folder / "home").write_text(str(self.home))
        return folder

    def sweep(self) -> None:
        """Remove outside folders of worlds whose home was deleted (`make clean`): their passwords are gone."""
        for folder in OUTSIDE.glob("salesintel-*"):
            with contextlib.suppress(OSError):
                home = Path((folder / "home").read_text())
                ours = folder.lstat().st_uid == os.geteuid()
                if ours and home.parent.is_dir() and not _remembers(home, folder.name):
                    shutil.rmtree(folder)

    def _write(self, name: str, content: object) -> None:
        unfinished = self.home / f"{name}.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
        unfinished.replace(self.home / name)


def _remembers(home: Path, folder: str) -> bool:
    try:
        return f"salesintel-{json.loads((home / 'world.json').read_text())['world_id']}" == folder
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError):
        return True
