"""`salesintel sql "SELECT ..."`: DuckDB over the Iceberg tables, read-only."""

from __future__ import annotations

import click

from salesintel_dagster.commands.session import session

SHOWN_ROWS = 1000


@click.command(
    epilog="""\b
Example:
  salesintel sql "SELECT category, avg(sold_price) AS price
                  FROM s3.pricing_intelligence.smartgo_sales
                  WHERE year = 2026 AND month = 11 GROUP BY category"
"""
)
@click.argument("statement")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects on standard output, all rows.")
def sql(statement: str, *, as_json: bool) -> None:
    """Ask the Iceberg tables in SQL.

    The tables are s3.pricing_intelligence.NAME, pricing_intelligence.NAME or just NAME. Filters on tenant_id, year
    and month read only the files of those partitions. Nothing can be written. A row too wide for the terminal is
    shown as a block, a column a line; at most 1,000 rows are shown, --json has all.
    """
    from salesintel_dagster import wiring  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.output import echo_array  # noqa: PLC0415 - same
    from salesintel_dagster.commands.rows import as_dicts, show_rows  # noqa: PLC0415 - same

    with session() as opened:
        answer = wiring.query_tables(opened.settings, statement)
        if as_json:
            echo_array(as_dicts(answer))
        else:
            show_rows(answer, SHOWN_ROWS)
