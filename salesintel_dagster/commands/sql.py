"""`salesintel sql "SELECT ..."`: DuckDB over the Iceberg tables, read-only."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from salesintel_dagster.commands.session import session

SHOWN_ROWS = 1000
SHOWN_LIST_ITEMS = 4


@click.command()
@click.argument("statement")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects on standard output, all rows.")
def sql(statement: str, *, as_json: bool) -> None:
    """Ask the Iceberg tables in SQL.

    \b
    salesintel sql "SELECT category, avg(sold_price) AS price
                    FROM s3.pricing_intelligence.smartgo_sales
                    WHERE year = 2026 AND month = 11 GROUP BY category"

    The tables are s3.pricing_intelligence.NAME, pricing_intelligence.NAME or just NAME. Filters on tenant_id, year
    and month read only the files of those partitions. Nothing can be written.
    """  # noqa: D301 - click keeps the lines after a real backspace
    from salesintel_dagster import wiring  # noqa: PLC0415 - after --help

    with session() as opened:
        found = wiring.query_tables(opened.settings, statement).read_all()
        rows = found.to_pylist()
    if as_json:
        click.echo(json.dumps(rows, default=str))
        return
    table = Table(box=None, pad_edge=False)
    for field in found.schema:
        numeric = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    if len(rows) > SHOWN_ROWS:
        click.echo(f"... {len(rows) - SHOWN_ROWS} more rows; use --json or a LIMIT", err=True)


def _shown(value: object) -> str:
    if isinstance(value, list) and len(value) > SHOWN_LIST_ITEMS:
        head = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value[:SHOWN_LIST_ITEMS])
        return f"[{head}, … {len(value)} values]"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
