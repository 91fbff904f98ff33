"""The embedded world: Postgres, AWS emulator, stand-ins of Titan and Keepa, image host; one thing to open and close.

The first process that opens a home runs its servers; others join them. State stays in the home and comes back at
the next opening, also after a SIGKILL of the process, of a server or of all of them. What a SIGKILL of the emulator
itself may cost is told in `emulator_app`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import psycopg

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.errors import WorldError
from salesintel_dagster.local.emulator import Emulator, python_environment
from salesintel_dagster.local.ports import LOOPBACK, answers, free_port
from salesintel_dagster.local.postgres import Postgres, postgres_in
from salesintel_dagster.local.processes import Child, Supervisor
from salesintel_dagster.local.world_content import follow_images, furnish
from salesintel_dagster.local.world_environment import REGION, SMARTGO_DATABASE, overlaid, overlay, write_aws_files
from salesintel_dagster.local.world_files import JOINERS, POLL_SECONDS, Memory, WorldFiles
from salesintel_dagster.settings import Settings

START_SECONDS = 60.0
SERVERS = ("postgres", "emulator", "titan", "images", "provider")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class World:
    """A running world. `environment` is what to set over one's own; `joined`: another process runs the servers."""

    home: Path
    environment: dict[str, str] = field(repr=False)
    postgres: Postgres
    images_folder: Path
    image_base_url: str
    joined: bool
    supervisor: Supervisor | None

    @property
    def failed(self) -> str | None:
        """Why a server was given up, or None while all is well (or another process knows)."""
        return self.supervisor.failed if self.supervisor is not None else None

    def connect_smartgo(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect to the SmartGo database as its owner, to put sales in."""
        return psycopg.connect(self.postgres.dsn(SMARTGO_DATABASE))


@contextlib.contextmanager
def open_world(home: Path, *, on_event: Tell, clock: Clock = SYSTEM_CLOCK) -> Iterator[World]:
    """Join the world of `home`, or start it and stop it at the end. Reads the process environment once.

    SIGTERM and SIGHUP end the process by way of the end of this block, unless they are handled already.

    Raises:
        WorldError: the folder, a server or the deployment failed; the message says which and what can be done.
    """
    files = WorldFiles(home)
    files.prepare()
    ends_at = clock.monotonic() + START_SECONDS
    while (lock := files.try_lock("lock")) is None:
        facts = files.announced()
        if facts is not None:
            on_event(f"Joined the embedded world in {files.home} (run by process {facts['pid']})")
            with files.joined(), _mourned(files, facts["pid"], on_event):
                yield _joined(files, facts)
            return
        if clock.monotonic() >= ends_at:
            raise WorldError(f"{files.home}: another process has been starting this world for {START_SECONDS:.0f} s")
        clock.sleep(POLL_SECONDS)
    try:
        with _ended_by_signals(), _run(files, on_event, clock) as world:
            yield world
    finally:
        os.close(lock)


@contextlib.contextmanager
def _run(files: WorldFiles, on_event: Tell, clock: Clock) -> Iterator[World]:
    began = clock.monotonic()
    files.withdraw()
    inherited = files.lock_children(clock, START_SECONDS)
    supervisor = Supervisor(on_event, [inherited], clock)
    try:
        files.sweep()
        before = files.recall()
        memory = _with_ports(before, on_event)
        files.remember(memory)
        postgres = _postgres(files, memory)
        supervisor.launch([_emulator(files, memory), *_stand_ins(files, memory)])
        postgres.initialise()
        supervisor.start([postgres.child(files.log("postgres"))], START_SECONDS)
        write_aws_files(files.home)
        environment = overlay(memory, files.home, os.environ)
        settings = Settings.from_environment(os.environ | environment)
        with overlaid(environment):
            furnish(postgres, memory, settings)
        if (old := before.ports.get("images")) not in (None, memory.ports["images"]):
            follow_images(postgres, old, memory.ports["images"])
        files.announce({"pid": str(os.getpid()), "stage": settings.stage, "tenant": settings.tenant})
        on_event(f"Started the embedded world in {files.home} ({clock.monotonic() - began:.1f} s)")
        yield _world(files, memory, postgres, environment, supervisor)
        _outlast_joiners(files, on_event, clock)
    finally:
        files.withdraw()
        supervisor.stop()
        os.close(inherited)


def _outlast_joiners(files: WorldFiles, on_event: Tell, clock: Clock) -> None:
    """Let no new process join, and wait for those that have; an error or a signal stops the world at once."""
    files.withdraw()
    told = False
    while (lock := files.try_lock(JOINERS)) is None:
        if not told:
            on_event("Other commands still use this world; waiting for them to end (Ctrl-C stops it under them)")
            told = True
        clock.sleep(POLL_SECONDS)
    os.close(lock)


@contextlib.contextmanager
def _mourned(files: WorldFiles, pid: str, on_event: Tell) -> Iterator[None]:
    """Say at the end where the world has stopped under its guest: what failed then says of itself only that."""
    try:
        yield
    finally:
        if not files.is_run_by(pid):
            on_event(
                f"The embedded world in {files.home} stopped meanwhile: process {pid}, which ran it, has ended. "
                "Type the command again: it starts the world anew"
            )


def _joined(files: WorldFiles, facts: Mapping[str, str]) -> World:
    memory = files.recall()
    environment = overlay(memory, files.home, os.environ)
    settings = Settings.from_environment(os.environ | environment)
    postgres = _postgres(files, memory)
    if (settings.stage, settings.tenant) != (facts["stage"], facts["tenant"]):
        with overlaid(environment):
            furnish(postgres, memory, settings)
    return _world(files, memory, postgres, environment, None)


def _world(
    files: WorldFiles, memory: Memory, postgres: Postgres, environment: dict[str, str], supervisor: Supervisor | None
) -> World:
    return World(
        home=files.home,
        environment=environment,
        postgres=postgres,
        images_folder=files.home / "images",
        image_base_url=f"http://{LOOPBACK}:{memory.ports['images']}",
        joined=supervisor is None,
        supervisor=supervisor,
    )


def _with_ports(memory: Memory, on_event: Tell) -> Memory:
    ports: dict[str, int] = {}
    for name in SERVERS:
        before = memory.ports.get(name)
        ports[name] = free_port(before)
        if before not in (None, ports[name]):
            on_event(f"Port {before} of {name} is taken by another program; using {ports[name]}")
    if len(set(ports.values())) < len(ports):
        return _with_ports(memory, on_event)
    return replace(memory, ports=ports)


def _postgres(files: WorldFiles, memory: Memory) -> Postgres:
    return postgres_in(files.home, lambda: files.reach(memory), memory.ports["postgres"], memory.password)


def _emulator(files: WorldFiles, memory: Memory) -> Child:
    return Emulator(files.home / "aws", memory.ports["emulator"], REGION).child(files.log("emulator"))


def _stand_ins(files: WorldFiles, memory: Memory) -> list[Child]:
    words = {
        "titan": ("titan_server", "/stats"),
        "images": ("image_server", "/", "--folder", str(files.home / "images")),
        "provider": ("keepa_server", "/stats"),
    }
    children = []
    for name, (module, path, *options) in words.items():
        port = memory.ports[name]
        children.append(
            Child(
                name=name,
                argv=(sys.executable, "-m", f"salesintel_dagster.local.{module}", "--port", str(port), *options),
                environment=python_environment(files.home),
                log=files.log(name),
                ready=lambda port=port, path=path: answers(port, path),  # type: ignore[misc]
            )
        )
    return children


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack; whoever has installed a handler of their own keeps it."""
    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)
