"""`salesintel demo`: from nothing to seven days in an Iceberg table, on made or on your own data."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salesintel_dagster import wiring
from salesintel_dagster.commands.runs import run_days
from salesintel_dagster.commands.session import Session, home, keep_setting, session
from salesintel_dagster.commands.status import show
from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.errors import QueryRefused, SettingInvalid
from salesintel_dagster.settings import Mode

DEMO_DAYS = 7
MAX_GAP = timedelta(days=14)
"""Days without a sale inside such a gap are exported as empty; a longer one is more likely a mistyped year."""
AVERAGE_PRICE = """
SELECT category, count(*) AS sales, round(avg(sold_price), 2) AS average_price, any_value(currency) AS currency
FROM s3.pricing_intelligence.smartgo_sales
WHERE {partitions}
GROUP BY category ORDER BY average_price DESC"""
COUNT_ROWS = "SELECT count(*) AS sales, count(embedding_vector) AS vectors FROM s3.pricing_intelligence.smartgo_sales"


if TYPE_CHECKING:
    from salesintel_dagster.local.world import World


@click.command()
@click.option(
    "--sales", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your sales: CSV or CSV.GZ."
)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of your photos.")
@click.option("--days", type=click.IntRange(1, 4000), help="Newest days to export [default: 7; all of your own data].")
def demo(sales: Path | None, photos: Path | None, days: int | None) -> None:
    """Seven days of sales through the whole export: Postgres, images, embeddings, Iceberg, checks, SQL.

    A second demo adds no row and pays for no embedding. With --sales and --photos your own data is loaded beside
    what is there, and its days are exported.
    """
    began = time.monotonic()
    if photos is not None and sales is None:
        raise click.UsageError("--photos needs --sales: photos alone are no sales")
    with session() as opened:
        if opened.settings.mode is not Mode.EMBEDDED or opened.world is None:
            raise SettingInvalid("SALESINTEL_MODE: the demo runs on the embedded world only")
        before = _counts(opened)
        wanted = _own_days(opened, sales, photos, days) if sales else _made_days(opened, days or DEMO_DAYS)
        problems = _export(opened, wanted)
        _tell(opened, wanted, before)
    _tell_where(opened, time.monotonic() - began)
    if problems:
        click.echo("\n".join(f"FAILED: {problem}" for problem in problems))
        sys.exit(1)


def _made_days(opened: Session, count: int) -> list[date]:
    from salesintel_dagster.local.seed import seed_demo  # noqa: PLC0415 - the [local] extra

    today = datetime.now(UTC).astimezone(opened.settings.zone).date()
    wanted = days_between(today - timedelta(days=count), today - timedelta(days=1))
    world = _world(opened)
    with world.connect_smartgo() as connection:
        report = seed_demo(connection, world.images_folder, world.image_base_url, days=wanted)
    click.echo(f"Seeded the sales database: {report}", err=True)
    return wanted


def _own_days(opened: Session, sales: Path, photos: Path | None, count: int | None) -> list[date]:
    from salesintel_dagster.local.own_data import load_own_data  # noqa: PLC0415 - the [local] extra

    world = _world(opened)
    with world.connect_smartgo() as connection:
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
    wanted = list(report.days)[-(count or 0) :]
    keep_setting(opened, "first_day", min(wanted[0].isoformat(), opened.settings.first_day))
    return wanted


def _world(opened: Session) -> World:
    assert opened.world is not None  # noqa: S101 - the demo has checked
    return opened.world


def _export(opened: Session, wanted: Sequence[date]) -> list[str]:
    problems = []
    for days in _spans(wanted, opened.settings.backfill_days_per_run):
        outcome = run_days(opened, days)
        if outcome.failure is not None:
            problems.append(outcome.failure)
    return problems


def _spans(wanted: Sequence[date], most: int) -> Iterator[list[date]]:
    """Yield runs of at most `most` days without a gap; single days without sales are exported as empty days."""
    start = 0
    for index, day in enumerate(wanted):
        last = index + 1 == len(wanted)
        if last or wanted[index + 1] - day > MAX_GAP or (wanted[index + 1] - wanted[start]).days >= most:
            yield days_between(wanted[start], day)
            start = index + 1


def _tell(opened: Session, wanted: Sequence[date], before: tuple[int, int]) -> None:
    records = [record for day in wanted if (record := opened.ledger.newest(day)) is not None]
    click.echo("\nEach partition, as the progress table has it:")
    show(records)
    paid = sum(record.paid_calls for record in records)
    after = _counts(opened)
    click.echo(
        f"\n{after[0]} rows in the table ({after[0] - before[0]:+d}), {after[1]} with a vector, {paid} paid calls"
    )
    if after == before and not paid:
        click.echo("Nothing was new: no row was added and no embedding was paid for.")
    months = sorted({(day.year, day.month) for day in wanted})
    partitions = " OR ".join(f"(year = {year} AND month = {month})" for year, month in months)
    click.echo("\nAverage price by category in these months:")
    for row in _query(opened, AVERAGE_PRICE.format(partitions=partitions)):
        click.echo(f"  {row['category']:<12} {row['average_price']:>10} {row['currency']}  {row['sales']:>6} sales")


def _counts(opened: Session) -> tuple[int, int]:
    try:
        row = _query(opened, COUNT_ROWS)[0]
    except QueryRefused:  # the table is made by the first export
        return 0, 0
    return row["sales"], row["vectors"]


def _query(opened: Session, statement: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = wiring.query_tables(opened.settings, statement).read_all().to_pylist()
    return rows


def _tell_where(opened: Session, seconds: float) -> None:
    settings = opened.settings
    click.echo(
        f"""
Done in {seconds:.1f} s. Where everything lies:
  Iceberg tables, images, vectors   {settings.warehouse_uri.rpartition("/")[0]} (emulated, under {home()})
  Dagster's runs and checks         {home() / "dagster"}
  logs of the embedded services     {home() / "logs"}
What next:
  make up                           the Dagster UI on http://127.0.0.1:3000
  salesintel status                 how the last days stand
  salesintel quarantine list        rows that were not taken, and why
  salesintel sql "SELECT ..."       the tables in SQL"""
    )
