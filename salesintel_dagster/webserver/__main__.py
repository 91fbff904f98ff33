"""`python -m salesintel_dagster.webserver`: the Dagster webserver behind the guard, until SIGTERM, SIGINT or SIGHUP.

Listens on 127.0.0.1. Any other address needs --bind and --token-file both: whoever reaches the port can run this
instance's code, so that the port is either this machine's own or asks for a token. Exit codes: 0 stopped as told;
1 it cannot serve (the sentence says why), or was cut off 4 seconds after it was told to stop; 2 wrong usage.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import click
import uvicorn

from salesintel_dagster.domain.ending import end_for_certain
from salesintel_dagster.domain.errors import SalesIntelError, SettingInvalid
from salesintel_dagster.webserver import wire
from salesintel_dagster.webserver.access import Access, read_token
from salesintel_dagster.webserver.dagster_app import Served, dagster_app
from salesintel_dagster.webserver.guard import Guard
from salesintel_dagster.webserver.rule import allowed_hosts

LOOPBACK = "127.0.0.1"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Server(uvicorn.Server):
    """Ends for certain."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the timer that ends the process, then stop as uvicorn does."""
        end_for_certain()  # the code servers end by themselves when nobody asks them any more
        super().handle_exit(sig, frame)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    end_for_certain()
    sys.exit(0)


def door(bind: str, token_file: Path | None) -> str | None:
    """Return the token, or None where none is needed. Raises SettingInvalid where that door may not be opened."""
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        raise SettingInvalid(f"--bind {bind!r} is not an IP address") from None
    if token_file is not None:
        return read_token(token_file)
    if not address.is_loopback:
        raise SettingInvalid(
            f"--bind {address} lets other machines in, so that it needs --token-file FILE as well; or leave --bind out"
            " and put a proxy that authenticates in front (docs/webserver.md)"
        )
    return None


def listener(bind: str, port: int) -> socket.socket:
    """Take the port at once, before the seconds of loading; connections wait until we answer. Raises SettingInvalid."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family)
    except OSError as error:
        raise SettingInvalid(f"cannot listen on {bind} port {port}: {os.strerror(error.errno or 0)}") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("-w", "--workspace", multiple=True, type=click.Path(exists=True), help="Workspace file.")
@click.option("-m", "--module", help="Module with the definitions, in place of a workspace file.")
@click.option("--read-only", is_flag=True, help="Viewer mode: nothing can be launched, changed or deleted.")
@click.option("--allow-host", multiple=True, metavar="HOST[:PORT]", help="A name users reach this webserver by.")
@click.option("--bind", default=LOOPBACK, show_default=True, metavar="ADDRESS", help="Needs --token-file elsewhere.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the token that requests must bring.")
def serve(  # noqa: PLR0913, PLR0917 - one argument per option, named by click
    port: int,
    workspace: tuple[str, ...],
    module: str | None,
    read_only: bool,  # noqa: FBT001 - same
    allow_host: tuple[str, ...],
    bind: str,
    token_file: Path | None,
) -> None:
    """Serve the Dagster UI to this machine and to nobody else."""
    if workspace and module:
        raise click.UsageError("--workspace and --module exclude each other")
    token = door(bind, token_file)
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    with listener(bind, port) as opened:
        chosen = opened.getsockname()[1]
        hosts = allowed_hosts(chosen, bind, allow_host, shared=token is not None)
        access = Access(token, chosen) if token is not None else None
        with dagster_app(Served(workspace, module, read_only)) as app:
            click.echo(f"Serving Dagster on http://{f'[{bind}]' if ':' in bind else bind}:{chosen}")
            server = _Server(wire.config(Guard(app, hosts, access), log_level="warning"))
            signal.signal(signal.SIGHUP, server.handle_exit)  # uvicorn takes only the other two
            server.run(sockets=[opened])


def main() -> None:
    """Run; an expected error is one sentence on standard error and exit code 1."""
    try:
        serve(prog_name="python -m salesintel_dagster.webserver")
    except SalesIntelError as error:
        click.echo(f"webserver: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
