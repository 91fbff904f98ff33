"""`salesintel status [DATE]` and `salesintel history DATE[..DATE]`: progress, for people and for scripts."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.dates import Day, DayRange
from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.domain.progress import Progress

SHOWN_DAYS = 7


@click.command(epilog="Example: salesintel status 2026-11-20 --json")
@click.argument("day", type=Day(), required=False, metavar="[DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def status(day: date | None, *, as_json: bool) -> None:
    """How the last seven days stand, or one DATE with its errors.

    Exit code 1 when a day shown failed, was lost or is RUNNING but silent for 2 minutes (its run was most likely
    killed), and when no run has worked on the DATE asked for.
    """
    from salesintel_dagster.commands.output import echo_json  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.records import as_dict, is_silent, show  # noqa: PLC0415 - same

    with session() as opened:
        today = datetime.now(UTC).astimezone(opened.settings.zone).date()
        days = [day] if day is not None else [today - timedelta(days=back) for back in range(SHOWN_DAYS, 0, -1)]
        found = {each: opened.ledger.newest(each) for each in days}
    if as_json:
        echo_json([as_dict(each, record) for each, record in found.items()])
    else:
        show(found)
        _tell_more(found, today, errors=day is not None)
    now = datetime.now(UTC)
    records = [record for record in found.values() if record is not None]
    if (day is not None and not records) or any(_is_bad(one) or is_silent(one, now) for one in records):
        sys.exit(1)


@click.command(epilog="Example: salesintel history 2026-11-01..2026-11-20")
@click.argument("days", type=DayRange(), metavar="DATE[..DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def history(days: list[date], *, as_json: bool) -> None:
    """Every run that worked on the days, newest first within a day."""
    from salesintel_dagster.commands.output import echo_array  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.records import as_dict, show_runs  # noqa: PLC0415 - same

    with session() as opened:
        records = [record for day in days for record in opened.ledger.history(day)]
    if as_json:
        echo_array(as_dict(record.day, record) for record in records)
    elif records:
        show_runs(records)
    else:
        click.echo("No run has worked on these days.")


def _is_bad(record: Progress) -> bool:
    return record.state.value in {"FAILED", "LOST"}


def _tell_more(found: dict[date, Progress | None], today: date, *, errors: bool) -> None:
    from salesintel_dagster.commands.output import printable  # noqa: PLC0415 - after --help

    missing = [day for day, record in found.items() if record is None]
    if missing and missing[-1] >= today:
        click.echo(f"\n{missing[-1]} has not ended yet; a day is exported in the night after it.")
    elif missing:
        click.echo(f"\nTo export a day that is missing: salesintel materialise {missing[-1]}")
    for record in found.values() if errors else ():
        if record is not None and record.errors:
            click.echo("\n".join(f"  {printable(error)}" for error in record.errors))
            if record.error_count > len(record.errors):
                click.echo(f"  ... and {record.error_count - len(record.errors)} more")
