"""`salesintel quarantine list|replay`: rows that were not taken, why, and trying them again."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date
from itertools import islice

import click

from salesintel_dagster.commands.session import Day, session

SHOWN_ROWS = 50


@click.group()
def quarantine() -> None:
    """Rows that were not taken, why, and trying them again."""


@quarantine.command("list")
@click.argument("day", type=Day(), required=False, metavar="[DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, whole rows.")
def list_(day: date | None, *, as_json: bool) -> None:
    """Days with quarantined rows, or the rows of one DATE with the rule that each breaks."""
    with session() as opened:
        if day is None:
            counts = opened.quarantine.days()
            if as_json:
                click.echo(json.dumps([{"day": found.isoformat(), "rows": rows} for found, rows in counts]))
            else:
                for found, rows in counts:
                    click.echo(f"{found}  {rows} row{'s' if rows > 1 else ''}")
                click.echo(f"{len(counts)} days with quarantined rows; details: salesintel quarantine list DATE")
            return
        entries = opened.quarantine.read(day)
        if as_json:
            click.echo(json.dumps([asdict(entry) for entry in entries]))
            return
        shown = 0
        for entry in islice(entries, SHOWN_ROWS):
            shown += 1
            name = entry.sale_id or "(no sale id)"
            click.echo(f"{name}  {entry.code}: {entry.field} = {entry.value}; rule: {entry.rule}")
        more = sum(1 for _ in entries)
        click.echo(f"{shown} shown, {more} more (--json has all)" if more else f"{shown} rows in quarantine for {day}")


@quarantine.command()
@click.argument("day", type=Day(), metavar="DATE")
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be tried again.")
def replay(day: date, *, really: bool) -> None:
    """Try a day's quarantined rows again, after the source or the rules were mended.

    Replaying materialises DATE again from the source: rows that are good now become sales, the others stay. Exit
    code 1 when the day failed.
    """
    from salesintel_dagster.commands.runs import run_days  # noqa: PLC0415 - Dagster is not needed for a dry run
    from salesintel_dagster.flows.export.quarantine import replay_report  # noqa: PLC0415 - same

    with session() as opened:
        before = list(opened.quarantine.read(day))
        if not really:
            click.echo(f"{len(before)} rows would be tried again for {day}; nothing was done (--apply does it)")
            return
        outcome = run_days(opened, [day])
        report = replay_report(before, opened.quarantine.read(day))
    click.echo(
        f"{day}: {len(report.left)} rows left the quarantine, {len(report.stay)} stay, {len(report.new)} are new"
    )
    for entry in report.stay:
        click.echo(f"  stays: {entry.sale_id or '(no sale id)'}  {entry.code}: {entry.field}; rule: {entry.rule}")
    if not outcome.success:
        click.echo(f"FAILED: {outcome.failure}")
        sys.exit(1)
