"""`salesintel tables` and `salesintel tables upkeep`: how the Iceberg tables stand, and looking after them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.domain.table_keeper import TableKeeper
    from salesintel_dagster.domain.upkeep import Survey
    from salesintel_dagster.flows.upkeep import Upkept

SHOWN_FILES = 20
NUMBERS = ("rows", "files", "size", "manifests", "snapshots", "stored files", "stored size")
HEADER = ("table", *NUMBERS, "oldest snapshot", "last upkeep")


@click.group(invoke_without_command=True, epilog="Example: salesintel tables upkeep --apply")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
@click.pass_context
def tables(context: click.Context, *, as_json: bool) -> None:
    """Snapshots, files, sizes and last upkeep of each Iceberg table.

    size: what the present rows take; stored size: all files in the table's location, older snapshots' too.
    """
    if context.invoked_subcommand is not None:
        return
    with session() as opened:
        from salesintel_dagster import wiring  # noqa: PLC0415 - boto3, after --help

        show(wiring.table_keepers(opened.settings), as_json=as_json)


@tables.command(
    short_help="Compact, expire, remove (a dry run without --apply).",
    epilog="Example: salesintel tables upkeep --apply",
)
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, every file named.")
def upkeep(*, really: bool, as_json: bool) -> None:
    """Look after the tables: what the 05:00 UTC schedule does every day.

    Writes many small files of a day as few, expires snapshots out of use for 5 days but the newest 20, and removes
    files older than 3 days that no kept snapshot refers to. No row changes; writers may go on. Exit code 1 when a
    step failed.
    """
    with session() as opened:
        from salesintel_dagster import wiring  # noqa: PLC0415 - boto3, after --help

        failures = look_after_all(wiring.table_keepers(opened.settings), really=really, as_json=as_json)
    if failures:
        sys.exit(1)


def show(keepers: Iterable[TableKeeper], *, as_json: bool) -> None:
    """Print one line per table. Raises TableUnavailable."""
    from salesintel_dagster.commands.output import echo_json, echo_table  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.domain.upkeep import UpkeepRules  # noqa: PLC0415 - same

    found = {keeper.name: keeper.survey(UpkeepRules(), SYSTEM_CLOCK.now()) for keeper in keepers}
    if as_json:
        echo_json([{"table": name, **(_state(survey) if survey else {})} for name, survey in found.items()])
        return
    echo_table(HEADER, [(name, *(_cells(survey) if survey else ["-"])) for name, survey in found.items()], NUMBERS)
    for name, survey in found.items():
        if survey is None:
            click.echo(f"{name}: not made yet; its first rows make it")
        elif survey.refused:
            click.echo(f"{name}: no file may be removed: {survey.refused}")
        elif any(step.items for step in survey.rehearsal()):
            click.echo(f"{name}: upkeep has work to do; see it with: salesintel tables upkeep")


def look_after_all(keepers: Iterable[TableKeeper], *, really: bool, as_json: bool) -> tuple[str, ...]:
    """Look after each table and tell; return a sentence for each failure."""
    from salesintel_dagster.commands.output import echo_json  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.domain.upkeep import UpkeepRules  # noqa: PLC0415 - same
    from salesintel_dagster.flows.upkeep import look_after  # noqa: PLC0415 - same

    done = [look_after(keeper, UpkeepRules(), SYSTEM_CLOCK, dry_run=not really) for keeper in keepers]
    if as_json:
        echo_json([_as_dict(upkept) for upkept in done])
    else:
        for upkept in done:
            _tell(upkept)
        if not really:
            click.echo("Nothing was done; --apply does it.")
    return tuple(failure for upkept in done for failure in upkept.failures)


def _tell(upkept: Upkept) -> None:
    from salesintel_dagster.commands.output import printable  # noqa: PLC0415 - after --help
    from salesintel_dagster.flows.upkeep import size  # noqa: PLC0415 - same

    for line in upkept.lines:
        click.echo(line)
    waiting = upkept.survey.to_remove if upkept.survey and not upkept.applied else ()
    for file in waiting[:SHOWN_FILES]:
        click.echo(f"  {file.modified_at:%Y-%m-%d %H:%M}  {size(file.bytes):>8}  {printable(file.path)}")
    if len(waiting) > SHOWN_FILES:
        click.echo(f"  ... {len(waiting) - SHOWN_FILES} more; --json names all")


def _as_dict(upkept: Upkept) -> dict[str, object]:
    survey = upkept.survey
    return {
        "table": upkept.table,
        "applied": upkept.applied,
        "steps": upkept.steps,
        "error": upkept.error or None,
        "would_remove": [file.path for file in survey.to_remove] if survey and not upkept.applied else [],
    }


def _state(survey: Survey) -> dict[str, int | datetime | None]:
    return {
        "rows": survey.rows,
        "files": survey.data_files,
        "bytes": survey.data_bytes,
        "manifests": survey.manifests,
        "snapshots": len(survey.snapshots),
        "stored_files": None if survey.managed or survey.refused else survey.stored_files,
        "stored_bytes": None if survey.managed or survey.refused else survey.stored_bytes,
        "oldest_snapshot": min((one.written_at for one in survey.snapshots), default=None),
        "last_upkeep": survey.last_upkeep,
    }


def _cells(survey: Survey) -> list[str]:
    return [_cell(name, value) for name, value in _state(survey).items()]


def _cell(name: str, value: int | datetime | None) -> str:
    from salesintel_dagster.flows.upkeep import size  # noqa: PLC0415 - after --help

    if value is None:
        return "never" if name == "last_upkeep" else "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return size(value) if name.endswith("bytes") else f"{value:,}"
