"""The supervisor: children that start together, are told ready by a real answer, and never outlive us.

One thread starts, watches and restarts every child: Linux sends the parent-death signal when the *thread* that
forked ends, so the thread lives as long as its children. A child gets its own session (Ctrl-C reaches us, not it),
its own log file and only the environment it is given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.ending import KILL_SECONDS
from salesintel_dagster.domain.errors import WorldError

POLL_SECONDS = 0.02
MAX_RESTARTS = 3
RESTART_WINDOW_SECONDS = 60.0
"""A child that ends more than MAX_RESTARTS times within the window is given up, and the world says so."""
RESTART_PAUSE_SECONDS = 0.05
"""Doubles with every restart: after a SIGKILL of Postgres its sessions need a moment to let go of the data."""
MAX_LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Child:
    """One program to keep running. `ready` answers whether it serves, by asking it; it never raises or waits long."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    user: User | None = None


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    starts: list[float] = field(default_factory=list)
    not_before: float = 0.0


class Supervisor:
    """Starts children, restarts a crashed one a bounded number of times, stops all.

    `keep_open` are file descriptors that every child inherits: a lock on one of them is held until the last child
    has ended, also when we are killed.
    """

    def __init__(
        self, on_event: Callable[[str], None], keep_open: Sequence[int] = (), clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._on_event = on_event
        self._keep_open = tuple(keep_open)
        self._clock = clock
        self._changed = threading.Condition()
        self._running: dict[str, _Running] = {}
        self._stopping = False
        self._failed: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def failed(self) -> str | None:
        """Why a child was given up, or None while all is well."""
        return self._failed

    def pid(self, name: str) -> int | None:
        """Return the process id of child `name`, or None while it has none."""
        with self._changed:
            process = self._running[name].process
            return process.pid if process is not None else None

    def launch(self, children: Sequence[Child]) -> None:
        """Start `children`; return at once."""
        with self._changed:
            self._running |= {child.name: _Running(child) for child in children}
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="salesintel-supervisor", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def start(self, children: Sequence[Child], deadline_seconds: float) -> None:
        """Launch `children` and wait until they and all others are ready. Raises WorldError."""
        self.launch(children)
        self.wait_until_ready(deadline_seconds)

    def wait_until_ready(self, deadline_seconds: float) -> None:
        """Wait until every child is ready.

        Raises:
            WorldError: one was given up, or the deadline passed; names the child and the end of its log.
        """
        ends_at = self._clock.monotonic() + deadline_seconds
        with self._changed:
            while late := [running.child for running in self._running.values() if not running.is_ready]:
                if self._failed is not None:
                    raise WorldError(self._failed)
                left = ends_at - self._clock.monotonic()
                if left <= 0:
                    reason = f"{late[0].name} was not ready after {deadline_seconds:.0f} s"
                    raise WorldError(f"{reason}{_log_end(late[0].log)}")
                self._changed.wait(left)

    def stop(self) -> None:
        """Stop every child: first by its stop signal, after KILL_SECONDS by SIGKILL. May be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._stopping:
                for running in self._running.values():
                    try:
                        self._step(running)
                    except OSError as error:
                        self._give_up(f"{running.child.name} cannot be started: {error}")
                self._changed.wait(POLL_SECONDS if self._pending() else POLL_SECONDS * 10)
            self._end_all()

    def _pending(self) -> bool:
        return self._failed is None and not all(running.is_ready for running in self._running.values())

    def _step(self, running: _Running) -> None:
        if running.process is None:
            if self._failed is None and self._clock.monotonic() >= running.not_before:
                self._spawn(running)
        elif (code := running.process.poll()) is not None:
            self._ended(running, code)
        elif not running.is_ready and running.child.ready():
            running.is_ready = True
            self._changed.notify_all()

    def _ended(self, running: _Running, code: int) -> None:
        running.process, running.is_ready = None, False
        now = self._clock.monotonic()
        recent = [start for start in running.starts if now - start < RESTART_WINDOW_SECONDS]
        end = _log_end(running.child.log)
        if len(recent) > MAX_RESTARTS:
            self._give_up(f"{running.child.name} ended {len(recent)} times (last with {_told(code)}){end}")
        else:
            running.not_before = now + RESTART_PAUSE_SECONDS * 2 ** len(recent)
            self._on_event(f"{running.child.name} ended with {_told(code)}; starting it again")

    def _give_up(self, reason: str) -> None:
        self._failed = reason
        self._on_event(reason)
        self._changed.notify_all()

    def _spawn(self, running: _Running) -> None:
        child = running.child
        running.starts.append(self._clock.monotonic())
        with _log_file(child.log) as log:
            running.process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                launched(child.argv, child.death_signal, child.user),
                env=dict(child.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                pass_fds=self._keep_open,
            )

    def _end_all(self) -> None:
        alive = [(run.child, run.process) for run in self._running.values() if run.process is not None]
        self._running.clear()
        for child, process in alive:
            process.send_signal(child.stop_signal)
        ends_at = self._clock.monotonic() + KILL_SECONDS
        for _, process in alive:
            try:
                process.wait(max(0.0, ends_at - self._clock.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what the child left behind in its session


def launched(argv: Sequence[str], death_signal: signal.Signals, user: User | None) -> list[str]:
    """Return the command that runs `argv` as `user`, sent `death_signal` when the calling thread ends."""
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    words = [int(death_signal), os.getpid(), user.uid if user else -1, user.gid if user else -1]
    return [*launcher, *(str(word) for word in words), *argv]


def _told(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _log_file(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _log_end(path: Path, lines: int = 3) -> str:
    try:
        text = path.read_bytes()[-4096:].decode(errors="replace").strip()
    except OSError:
        return ""
    return f"; {path}: " + " | ".join(text.splitlines()[-lines:]) if text else ""
