"""`salesintel status [DATE]` and `salesintel history DATE[..DATE]`: progress, for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from salesintel_dagster.commands.session import Day, DayRange, Session, session
from salesintel_dagster.domain.progress import Progress, RunState

SHOWN_DAYS = 7


@click.command()
@click.argument("day", type=Day(), required=False, metavar="[DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def status(day: date | None, *, as_json: bool) -> None:
    """How the last seven days stand, or one DATE with its errors.

    Exit code 1 when a day shown failed or was lost, 0 otherwise.
    """
    with session() as opened:
        days = [day] if day is not None else _last_days(opened)
        found = {each: opened.ledger.newest(each) for each in days}
    records = [record for record in found.values() if record is not None]
    if as_json:
        click.echo(json.dumps([as_dict(record) for record in records]))
    else:
        show(records)
        for missing in (each for each, record in found.items() if record is None):
            click.echo(f"{missing}: no export has run; try: salesintel materialise {missing}")
        if day is not None:
            _show_errors(records)
    if any(record.state in (RunState.FAILED, RunState.LOST) for record in records):
        sys.exit(1)


@click.command()
@click.argument("days", type=DayRange(), metavar="DATE[..DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def history(days: list[date], *, as_json: bool) -> None:
    """Every run that worked on the days, newest first within a day."""
    with session() as opened:
        records = [record for day in days for record in opened.ledger.history(day)]
    if as_json:
        click.echo(json.dumps([as_dict(record) for record in records]))
    elif records:
        show(records)
    else:
        click.echo("No export has run for these days.")


def show(records: Iterable[Progress]) -> None:
    """Print progress records as a table, one line each."""
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "state"):
        table.add_column(name)
    for name in ("sales", "quarantined", "images", "embedded"):
        table.add_column(name, justify="right")
    table.add_column("failed by reason")
    for name in ("seconds", "paid calls"):
        table.add_column(name, justify="right")
    for record in records:
        table.add_row(*_row(record))
    Console(width=None if sys.stdout.isatty() else 132, highlight=False).print(table)


def as_dict(record: Progress) -> dict[str, object]:
    """Return a record as JSON values."""
    plain = {**asdict(record), "seconds": _seconds(record)}
    return {key: value.isoformat() if isinstance(value, date) else value for key, value in plain.items()}


def _row(record: Progress) -> tuple[str, ...]:
    failed = ", ".join(f"{reason} {n}" for reason, n in record.failed.items()) or "-"
    numbers = (record.sales, record.quarantined, record.images_ok, record.embedded)
    state = record.state.value if record.state is not RunState.RUNNING else f"RUNNING {record.stage}"
    return (
        record.day.isoformat(),
        state,
        *(str(number) for number in numbers),
        failed,
        f"{_seconds(record):.1f}",
        str(record.paid_calls),
    )


def _seconds(record: Progress) -> float:
    ended = record.finished_at or record.updated_at
    return round((ended - record.started_at).total_seconds(), 3)


def _show_errors(records: list[Progress]) -> None:
    for record in records:
        for error in record.errors:
            click.echo(f"  {error}")
        if record.error_count > len(record.errors):
            click.echo(f"  ... and {record.error_count - len(record.errors)} more")


def _last_days(opened: Session) -> list[date]:
    today = datetime.now(UTC).astimezone(opened.settings.zone).date()
    return [today - timedelta(days=back) for back in range(SHOWN_DAYS, 0, -1)]
