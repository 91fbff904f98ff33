"""The command line's root: which commands there are, and how an error becomes a sentence and an exit code.

Exit codes: 0 done; 1 the command could not do it, or some days failed (the sentence says which); 2 wrong usage;
130 stopped by Ctrl-C, 143 by SIGTERM. Commands are imported when they are called, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from salesintel_dagster.commands.leaving import redaction
from salesintel_dagster.commands.stopping import Stopped, delivered_again
from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.domain.redaction import without_secrets

COMMANDS = {
    "demo": "Seven days of sales through the whole export, on this machine alone.",
    "up": "The Dagster UI and daemon beside the embedded world; Ctrl-C stops all.",
    "status": "How the last days stand, or one day.",
    "history": "Every run that worked on a day.",
    "materialise": "Export one day or a range of days.",
    "sql": "Ask the Iceberg tables in SQL.",
    "tables": "The Iceberg tables' snapshots, files and sizes, and their upkeep.",
    "events": "Sold events: send, look after, put back to work, compare both stores.",
    "enrich": "Catalogs of products: hand in, follow, try again.",
    "quarantine": "Rows that were not taken, why, and trying them again.",
    "sales": "Look up, store and delete a tenant's sales in DynamoDB.",
    "shards": "How sales spread over the shards of the sales table.",
    "ttl": "When sales expire in DynamoDB.",
    "deploy": "Deploy the infrastructure template.",
    "doctor": "Is every dependency reachable, permitted and configured?",
}
MODULES = {"history": "status"}
"""Commands that live in another command's module."""
ALSO_CALLED = {"materialize": "materialise"}
"""Dagster spells it with a z, and so do the fingers of whoever uses Dagster."""


class LazyCommands(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - same
        """Import and return the command."""
        name = ALSO_CALLED.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"salesintel_dagster.commands.{MODULES.get(name, name)}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - same
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: salesintel demo, then salesintel COMMAND --help for an example of each command.",
)
@click.version_option(package_name="salesintel-dagster")
def cli() -> None:
    """Resale pricing intelligence on Dagster: daily sales, image embeddings, Iceberg tables.

    With no setting at all everything runs on this machine, under .salesintel (or $SALESINTEL_HOME): a Postgres, an
    AWS emulator and an embedding stand-in are started for as long as a command needs them.

    Exit codes: 0 done, 1 it could not be done or a day failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; an expected error is one sentence on standard error and an exit code."""
    code: object
    try:
        with delivered_again(KeyboardInterrupt):
            code = cli(arguments, prog_name="salesintel", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _failed("stopped; what was done stays done", 128 + signal.SIGINT)
    except Stopped as stopped:
        code = _failed(str(stopped), stopped.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except SalesIntelError as error:
        code = _failed(str(error), 1)
    except OSError as error:  # a full disk, a folder that is not ours
        code = _failed(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), 1)
    except Exception as error:  # noqa: BLE001 - raised again, unless it is told: nobody knows what stands in it
        reason = _reason_of_instance(error)
        code = without_secrets(error, redaction()) if reason is None else _failed(reason, 1)
    if isinstance(code, Exception):
        raise code
    sys.exit(code if isinstance(code, int) else 0)


def _reason_of_instance(error: Exception) -> str | None:
    """Return what SQLite says of Dagster's instance, on a full disk for example; None for another error."""
    cause = getattr(error, "orig", None)  # SQLAlchemy's errors hold the database's own there, beside the statement
    if type(cause).__module__ != "sqlite3":
        return None
    return f"the database of Dagster's instance: {cause} (is its disk full?)"


def _failed(sentence: str, code: int) -> int:
    click.echo(f"salesintel: {redaction()(sentence)}", err=True)
    return code
