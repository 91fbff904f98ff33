"""`salesintel materialise DATE[..DATE]`."""

from __future__ import annotations

import json
import sys
from datetime import date

import click

from salesintel_dagster.commands.runs import run_days
from salesintel_dagster.commands.session import DayRange, session


@click.command()
@click.argument("days", type=DayRange(), metavar="DATE[..DATE]")
@click.option("--allow-empty", is_flag=True, help="Replace a day that has rows where the source now has none.")
@click.option("--refetch-images", is_flag=True, help="Download every image again, also those stored already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def materialise(days: list[date], *, allow_empty: bool, refetch_images: bool, as_json: bool) -> None:
    """Export one day or a range of days: source to table, with checks, as a real Dagster run.

    A day that is materialised again is replaced; nothing is paid for twice. Exit code 1 when a day failed; the days
    that did not fail are done.
    """
    with session() as opened:
        outcome = run_days(opened, days, allow_empty=allow_empty, refetch_images=refetch_images)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "run_id": outcome.run_id,
                    "success": outcome.success,
                    "failure": outcome.failure,
                    "failed_checks": outcome.failed_checks,
                }
            )
        )
    else:
        for check in outcome.failed_checks:
            click.echo(f"check: {check}")
        told = "done" if outcome.success else f"FAILED: {outcome.failure}"
        click.echo(f"{len(days)} day{'s' if len(days) > 1 else ''}, run {outcome.run_id}: {told}")
    if not outcome.success:
        sys.exit(1)
