"""`salesintel quarantine list|replay`: rows that were not taken, why, and trying them again."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.dates import Day
from salesintel_dagster.commands.session import Session, session

if TYPE_CHECKING:
    from salesintel_dagster.commands.runs import RunOutcome
    from salesintel_dagster.flows.export.quarantine import DayEntries, QuarantineEntry

SHOWN_ROWS = 50


@click.group()
def quarantine() -> None:
    """Rows that were not taken, why, and trying them again."""


@quarantine.command(
    "list",
    short_help="Days with quarantined rows, or one day's rows.",
    epilog="Example: salesintel quarantine list 2026-11-20",
)
@click.argument("day", type=Day(), required=False, metavar="[DATE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, whole rows.")
def list_(day: date | None, *, as_json: bool) -> None:
    """Days with quarantined rows, or the rows of one DATE with the rule that each breaks."""
    with session() as opened:
        if day is None:
            _list_days(opened, as_json=as_json)
        else:
            _list_rows(opened, day, as_json=as_json)


@quarantine.command(
    short_help="Try a day's rows again (a dry run without --apply).",
    epilog="Example: salesintel quarantine replay 2026-11-20 --apply",
)
@click.argument("day", type=Day(), metavar="DATE")
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be tried again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--verbose", is_flag=True, help="Log lines instead of a progress display.")
def replay(day: date, *, really: bool, as_json: bool, verbose: bool) -> None:
    """Try a day's quarantined rows again, after the source or the rules were mended.

    Replaying materialises DATE again from the source: rows that are good now become sales, the others stay. Exit
    code 1 when the day failed.
    """
    from salesintel_dagster.commands.output import counted, echo_json  # noqa: PLC0415 - after --help

    failure = None
    with session() as opened, opened.quarantine.kept(day) as before:
        if really:
            failure = _replay(opened, day, before, as_json=as_json, verbose=verbose)
        elif as_json:
            echo_json({"day": day, "applied": False, "rows": len(before)})
        else:
            rows = counted(len(before), "row")
            click.echo(f"{rows} would be tried again for {day}; nothing was done (--apply does it)")
    if failure is not None:
        sys.exit(1)


def _replay(opened: Session, day: date, before: DayEntries, *, as_json: bool, verbose: bool) -> str | None:
    from salesintel_dagster.commands.runs import run_days  # noqa: PLC0415 - Dagster is not needed for a dry run

    (outcome,) = run_days(opened, [day], verbose=verbose)
    with opened.quarantine.kept(day) as after:
        show = _show_replayed_as_json if as_json else _show_replayed
        show(day, outcome, before, after)
    return outcome.failure


def _show_replayed(day: date, outcome: RunOutcome, before: DayEntries, after: DayEntries) -> None:
    """Go through them twice, once to count: rows may be a megabyte each."""
    from salesintel_dagster.commands.output import counted  # noqa: PLC0415 - after --help
    from salesintel_dagster.flows.export.replay import Fate, replayed  # noqa: PLC0415 - same

    number = Counter(fate for fate, _ in replayed(before, after))
    click.echo(
        f"{day}: {counted(number[Fate.LEFT], 'row')} left the quarantine, {number[Fate.STAYS]} stay, "
        f"{number[Fate.NEW]} are new"
    )
    words = {Fate.STAYS: "stays", Fate.NEW: "new"}
    for fate, entry in replayed(before, after):
        if fate in words:
            click.echo(f"  {words[fate]}: {_line(entry)}")
    if outcome.failure is not None:
        click.echo(f"FAILED: {outcome.failure}")


def _show_replayed_as_json(day: date, outcome: RunOutcome, before: DayEntries, after: DayEntries) -> None:
    """Print one JSON object whose three arrays come a row a line."""
    from salesintel_dagster.commands.output import echo_array, json_text  # noqa: PLC0415 - after --help
    from salesintel_dagster.flows.export.replay import Fate, replayed  # noqa: PLC0415 - same

    head = {"day": day, "applied": True, "run_id": outcome.run_id, "failure": outcome.failure}
    click.echo(json_text(head).removesuffix("}"), nl=False)
    for wanted in Fate:
        click.echo(f',\n"{wanted}":', nl=False)
        echo_array(_as_dict(entry) for fate, entry in replayed(before, after) if fate is wanted)
    click.echo("}")


def _list_days(opened: Session, *, as_json: bool) -> None:
    from salesintel_dagster.commands.output import counted, echo_json  # noqa: PLC0415 - after --help

    counts = opened.quarantine.days()
    if as_json:
        echo_json([{"day": found, "rows": rows} for found, rows in counts])
        return
    for found, rows in counts:
        click.echo(f"{found}  {counted(rows, 'row')}")
    if counts:
        told = counted(len(counts), "day")
        click.echo(f"{told} with quarantined rows; details: salesintel quarantine list {counts[-1][0]}")
    else:
        click.echo("No row is in quarantine.")


def _list_rows(opened: Session, day: date, *, as_json: bool) -> None:
    from salesintel_dagster.commands.output import counted, echo_array  # noqa: PLC0415 - after --help

    entries = opened.quarantine.read(day)
    if as_json:
        echo_array(_as_dict(entry) for entry in entries)
        return
    shown = 0
    for entry in islice(entries, SHOWN_ROWS):
        shown += 1
        click.echo(_line(entry))
    more = sum(1 for _ in entries)
    rows = counted(shown, "row")
    click.echo(f"{rows} shown, {more} more (--json has all)" if more else f"{rows} in quarantine for {day}")


def _line(entry: QuarantineEntry) -> str:
    from salesintel_dagster.commands.output import printable  # noqa: PLC0415 - after --help

    name = entry.sale_id or "(no sale id)"
    return printable(f"{name}  {entry.code}: {entry.field} = {entry.value}; rule: {entry.rule}")


def _as_dict(entry: QuarantineEntry) -> dict[str, object]:
    return {"sale_id": entry.sale_id, **asdict(entry)}
