"""What `salesintel demo` tells at its end: each day, the rows, a first question in SQL, and where everything lies."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesintel_dagster import wiring
from salesintel_dagster.commands.records import newest, show
from salesintel_dagster.commands.rows import show_rows
from salesintel_dagster.commands.session import Session, home
from salesintel_dagster.domain.errors import QueryRefused

if TYPE_CHECKING:
    from salesintel_dagster.commands.runs import RunOutcome

COUNT_ROWS = "SELECT count(*) AS sales, count(embedding_vector) AS vectors FROM s3.pricing_intelligence.smartgo_sales"
AVERAGE_PRICE = """\
SELECT category, count(*) AS sales, CAST(avg(sold_price) AS DECIMAL(18, 2)) AS average_price, currency
FROM s3.pricing_intelligence.smartgo_sales
WHERE sold_date BETWEEN DATE '{first}' AND DATE '{last}'
GROUP BY category, currency
ORDER BY average_price DESC"""
SHOWN_ROWS = 50


def counts(opened: Session) -> tuple[int, int]:
    """Return how many rows, and how many vectors, the table holds; none where no export has made it yet."""
    try:
        row = wiring.query_tables(opened.settings, COUNT_ROWS).read_all().to_pylist()[0]
    except QueryRefused:
        return 0, 0
    return row["sales"], row["vectors"]


def tell_data(opened: Session, days: Sequence[date], before: tuple[int, int], outcomes: Sequence[RunOutcome]) -> None:
    """Tell each day's progress, the checks that did not pass, what the table gained, the average prices."""
    from salesintel_dagster.commands.runs import tell_checks  # noqa: PLC0415 - Dagster, after --help

    found = newest(opened.ledger, days)
    click.echo(f"\nEach day, as the DynamoDB table {opened.settings.progress_table_name} has it:")
    show(found)
    if any(outcome.failed_checks for outcome in outcomes):
        click.echo()
        tell_checks(outcomes)
    paid = sum(record.paid_calls for record in found.values() if record is not None)
    rows, vectors = counts(opened)
    click.echo(f"\n{rows} rows in the table ({rows - before[0]:+d}), {vectors} with a vector, {paid} paid calls")
    if not rows:
        return
    if (rows, vectors) == before and not paid:
        click.echo("Nothing was new: no row was added and no embedding was paid for.")
    statement = AVERAGE_PRICE.format(first=days[0], last=days[-1])
    click.echo(f"\n{statement}\n")
    show_rows(wiring.query_tables(opened.settings, statement), SHOWN_ROWS)


def tell_where(opened: Session, last: date, seconds: float) -> None:
    """Tell where everything lies and what to do next, in words that can be copied."""
    us = command_name()
    next_steps = {
        f"{us} up": "the Dagster UI on http://127.0.0.1:3000",
        f"{us} status {last}": "one day, with what went wrong in it",
        f"{us} quarantine list": "rows that were not taken, and why",
        f'{us} sql "SELECT ..."': "the table in SQL",
    }
    width = max(len(step) for step in next_steps)
    click.echo(
        f"""
Done in {seconds:.1f} s. Where everything lies:
  Iceberg table, images, vectors    s3://{opened.settings.bucket_name} (emulated, under {_near(home())})
  Dagster's runs and checks         {_near(home() / "dagster")}
  SmartGo's Postgres                {_near(opened.world.postgres.data) if opened.world else "elsewhere"}
  logs of the embedded services     {_near(home() / "logs")}
What next:"""
    )
    for step, what in next_steps.items():
        click.echo(f"  {step:<{width}}  {what}")


def command_name() -> str:
    """Return what to type for this command line: after `make demo` it is not on the PATH."""
    if shutil.which("salesintel") is not None:
        return "salesintel"
    called = Path(sys.argv[0])
    return str(_near(called.absolute())) if called.name == "salesintel" else "python -m salesintel_dagster"


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
