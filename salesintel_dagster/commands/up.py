"""`salesintel up`: the Dagster webserver and daemon, beside the embedded world where there is no AWS."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.session import Session, home, prepare_instance, session
from salesintel_dagster.domain.errors import WorldError

if TYPE_CHECKING:
    from salesintel_dagster.local.processes import Child

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 3000
READ_ONLY = "--read-only"
START_SECONDS = 90.0
WATCH_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(epilog="Example: salesintel up --port 3100")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(1, 65535), help="Port of the UI.")
@click.option(READ_ONLY, is_flag=True, help="Viewer mode: the UI shows all and launches or changes nothing.")
@click.option("--allow-host", multiple=True, metavar="HOST[:PORT]", help="A name that a proxy in front is reached by.")
def up(port: int, allow_host: tuple[str, ...], *, read_only: bool) -> None:
    """The Dagster UI and daemon on this machine; Ctrl-C or SIGTERM stops all, state is kept.

    Listens on 127.0.0.1 only. The 03:00 UTC schedule and the sensors run while this does, in viewer mode too.
    """
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: _stop(stop))
    with suppress(KeyboardInterrupt), _only_one(), session() as opened:
        _serve(opened, port, stop, _webserver_options(allow_host, read_only=read_only))
    click.echo("All stopped.", err=True)


def _webserver_options(allow_host: Sequence[str], *, read_only: bool) -> list[str]:
    return [*(f"--allow-host={name}" for name in allow_host), *([READ_ONLY] if read_only else [])]


def _stop(stop: threading.Event) -> None:
    """Leave whatever is waited for at the first signal; the ones after it must not disturb the stopping."""
    if not stop.is_set():
        stop.set()
        raise KeyboardInterrupt


def _serve(opened: Session, port: int, stop: threading.Event, options: Sequence[str]) -> None:
    from salesintel_dagster.local.ports import free_port  # noqa: PLC0415 - after --help
    from salesintel_dagster.local.processes import Supervisor  # noqa: PLC0415 - same

    instance = prepare_instance()
    chosen = free_port(port)
    if chosen != port:
        click.echo(f"Port {port} is taken; the UI is on {chosen} instead (--port chooses).")
    supervisor = Supervisor(lambda event: click.echo(event, err=True))
    try:
        click.echo("Starting the Dagster webserver and daemon ...", err=True)
        _end_lost_runs()
        supervisor.start(_children(instance, chosen, options), START_SECONDS)
        viewer = " (viewer mode: nothing can be launched or changed there)" if READ_ONLY in options else ""
        click.echo(
            f"Dagster UI: http://{LOOPBACK}:{chosen}{viewer}   (Ctrl-C stops everything; state stays in {home()})"
        )
        while not stop.wait(WATCH_SECONDS):
            failed = supervisor.failed or (opened.world.failed if opened.world is not None else None)
            if failed is not None:
                raise WorldError(failed)
    finally:
        click.echo("Stopping ...", err=True)
        supervisor.stop()


def _end_lost_runs() -> None:
    import dagster as dg  # noqa: PLC0415 - after --help

    from salesintel_dagster.defs.lost_runs import end_lost_runs  # noqa: PLC0415 - same

    with dg.DagsterInstance.get() as instance:
        for run_id in end_lost_runs(instance):
            click.echo(f"Run {run_id} ended with the stack that launched it; it is tried again.", err=True)


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold this home's lock: two daemons on one instance would launch each other's runs. Raises WorldError."""
    from salesintel_dagster.local.world_files import unusable  # noqa: PLC0415 - after --help

    try:
        home().mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home() / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unusable(home(), error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise WorldError(
            f"already up in {home()}; stop that one first, or set SALESINTEL_HOME to another folder"
        ) from None
    else:
        yield
    finally:
        os.close(descriptor)


def _children(instance: Path, port: int, options: Sequence[str]) -> list[Child]:
    from salesintel_dagster.local.processes import Child  # noqa: PLC0415 - after --help

    logs = home() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    workspace = _workspace()
    webserver = (
        "-m",
        "salesintel_dagster.webserver",
        "--port",
        str(port),
        *workspace,
        *options,
    )
    daemon = ("-m", "dagster._daemon", "run", *workspace)
    environment = {**os.environ, "DAGSTER_HOME": str(instance)}
    return [
        Child("webserver", (sys.executable, *webserver), environment, logs / "webserver.log", lambda: _serves(port)),
        Child("daemon", (sys.executable, *daemon), environment, logs / "daemon.log", lambda: True),
    ]


def _workspace() -> tuple[str, str]:
    file = Path(__file__).parents[2] / "workspace.yaml"
    return ("-w", str(file)) if file.exists() else ("-m", "salesintel_dagster.definitions")


def _serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/server_info", timeout=1) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP OK
    except OSError:
        return False
