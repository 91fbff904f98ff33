"""`salesintel demo`: from nothing to seven days in an Iceberg table, on made or on your own data."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesintel_dagster.commands.dates import MOST_DAYS
from salesintel_dagster.commands.session import Session, keep_setting, session
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.errors import SettingInvalid

if TYPE_CHECKING:
    from salesintel_dagster.commands.runs import RunOutcome
    from salesintel_dagster.local.world import World

DEMO_DAYS = 7
MAX_GAP = timedelta(days=14)
"""Days without a sale inside such a gap are exported as empty; a longer one is more likely a mistyped year."""


@click.command(epilog="Example: salesintel demo --sales my_sales.csv --photos my_photos")
@click.option(
    "--sales", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your sales: CSV or CSV.GZ."
)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of your photos.")
@click.option(
    "--days", type=click.IntRange(1, MOST_DAYS), help="Newest days to export [default: 7; all of your own data]."
)
@click.option("--verbose", is_flag=True, help="Log lines instead of a progress display.")
def demo(sales: Path | None, photos: Path | None, days: int | None, *, verbose: bool) -> None:
    """Seven days of sales through the whole export: Postgres, images, embeddings, Iceberg, checks, SQL.

    A second demo adds no row and pays for no embedding. With --sales and --photos your own data is loaded beside
    what is there, and its days are exported. Exit code 1 when a day failed.
    """
    from salesintel_dagster.commands.demo_report import counts, tell_data, tell_where  # noqa: PLC0415 - after --help
    from salesintel_dagster.settings import Mode  # noqa: PLC0415 - same

    if photos is not None and sales is None:
        raise click.UsageError("--photos needs --sales: photos alone are no sales")
    began = time.monotonic()
    with session() as opened:
        if opened.settings.mode is not Mode.EMBEDDED:
            raise SettingInvalid("SALESINTEL_MODE: the demo runs on the embedded world only")
        before = counts(opened)
        wanted = (
            _made_days(opened, days or DEMO_DAYS, verbose=verbose)
            if sales is None
            else _own_days(opened, sales, photos, days, verbose=verbose)
        )
        spans = _spans(wanted)
        outcomes = _export(opened, spans, verbose=verbose)
        tell_data(opened, [day for span in spans for day in span], before, outcomes)
        tell_where(opened, wanted[-1], time.monotonic() - began)
    problems = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if problems:
        click.echo("\n" + "\n".join(f"FAILED: {problem}" for problem in problems))
        sys.exit(1)


def _made_days(opened: Session, count: int, *, verbose: bool) -> list[date]:
    from salesintel_dagster.commands.live import working  # noqa: PLC0415 - after --help
    from salesintel_dagster.local.seed import seed_demo  # noqa: PLC0415 - the [local] extra

    today = datetime.now(UTC).astimezone(opened.settings.zone).date()
    wanted = days_between(today - timedelta(days=count), today - timedelta(days=1))
    world = _world(opened)
    with working("drawing product pictures", verbose=verbose), world.connect_smartgo() as connection:
        report = seed_demo(
            connection, world.images_folder, world.image_base_url, days=wanted, zone=opened.settings.zone
        )
    click.echo(f"Seeded the sales database: {report}", err=True)
    return wanted


def _own_days(opened: Session, sales: Path, photos: Path | None, count: int | None, *, verbose: bool) -> list[date]:
    from salesintel_dagster.commands.live import working  # noqa: PLC0415 - after --help
    from salesintel_dagster.local.own_data import load_own_data  # noqa: PLC0415 - the [local] extra

    world = _world(opened)
    with working(f"loading {sales.name}", verbose=verbose), world.connect_smartgo() as connection:
        report = load_own_data(
            connection,
            world.images_folder,
            world.image_base_url,
            sales_csv=sales,
            photos=photos,
            zone=opened.settings.zone,
        )
    click.echo(f"Loaded {sales.name}: {report}", err=True)
    if report.invented:
        click.echo(f"NOTE: {report.invented}")
    today = datetime.now(UTC).astimezone(opened.settings.zone).date()
    whole = [day for day in report.days if day < today]
    if len(whole) < len(report.days):
        later = len(report.days) - len(whole)
        click.echo(f"NOTE: {later} days that have not ended yet are loaded and wait for their end.")
    if not whole:
        raise SettingInvalid(f"{sales.name}: no line lies before today; only days that have ended are exported")
    wanted = whole[-(count or 0) :]
    keep_setting(opened, "first_day", min(whole[0].isoformat(), opened.settings.first_day))
    return wanted


def _world(opened: Session) -> World:
    assert opened.world is not None  # noqa: S101 - the embedded mode has one
    return opened.world


def _export(opened: Session, spans: Sequence[Sequence[date]], *, verbose: bool) -> list[RunOutcome]:
    from salesintel_dagster.commands.runs import run_days  # noqa: PLC0415 - Dagster, after --help

    return [outcome for days in spans for outcome in run_days(opened, days, verbose=verbose)]


def _spans(wanted: Sequence[date]) -> list[list[date]]:
    """Return the days as ranges without a gap; single days without sales are exported as empty days."""
    starts = [0, *(i for i in range(1, len(wanted)) if wanted[i] - wanted[i - 1] > MAX_GAP)]
    ends = [*starts[1:], len(wanted)]
    return [days_between(wanted[start], wanted[end - 1]) for start, end in zip(starts, ends, strict=True)]
