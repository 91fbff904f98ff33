"""`salesintel materialise DATE[..DATE]`."""

from __future__ import annotations

import sys
from datetime import date
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.dates import DayRange
from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.commands.runs import RunOutcome


@click.command(epilog="Example: salesintel materialise 2026-11-01..2026-11-20")
@click.argument("days", type=DayRange(), metavar="DATE[..DATE]")
@click.option("--allow-empty", is_flag=True, help="Replace a day that has rows where the source now has none.")
@click.option("--refetch-images", is_flag=True, help="Download every image again, also those stored already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--verbose", is_flag=True, help="Log lines instead of a progress display.")
def materialise(days: list[date], *, allow_empty: bool, refetch_images: bool, as_json: bool, verbose: bool) -> None:
    """Export one day or a range of days: source to table, with checks, as real Dagster runs.

    A day that is materialised again is replaced; nothing is paid for twice. Exit code 1 when a day failed; the days
    that did not fail are done.
    """
    from salesintel_dagster.commands.output import echo_json  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.records import as_dict, newest, show  # noqa: PLC0415 - same
    from salesintel_dagster.commands.runs import run_days, tell_checks  # noqa: PLC0415 - Dagster, after --help

    with session() as opened:
        outcomes = run_days(opened, days, allow_empty=allow_empty, refetch_images=refetch_images, verbose=verbose)
        found = newest(opened.ledger, days)
    success = all(outcome.success for outcome in outcomes)
    if as_json:
        records = [as_dict(day, record) for day, record in found.items()]
        echo_json({"success": success, "runs": outcomes, "days": records})
    else:
        show(found)
        click.echo()
        tell_checks(outcomes)
        _tell(outcomes, len(days))
    if not success:
        sys.exit(1)


def _tell(outcomes: list[RunOutcome], days: int) -> None:
    for outcome in outcomes:
        told = "done" if outcome.success else f"FAILED: {outcome.failure}"
        click.echo(f"run {outcome.run_id}: {told}")
    left = days - sum(outcome.days for outcome in outcomes)
    if left:
        click.echo(f"FAILED: {left} more days were not tried, since that run wrote none")
