"""How `salesintel events reconcile` tells what it compared and repaired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import click

from salesintel_dagster.commands.output import counted, echo_json, echo_table, printable
from salesintel_dagster.domain.reconciliation import DayComparison
from salesintel_dagster.flows.sync.reconcile import Repaired

DAYS_HEADER = ("tenant", "day", "sales table", "sales_history", "differences")


def show_days(
    days: Sequence[DayComparison],
    repairs: Sequence[Repaired],
    forgotten: Sequence[date],
    *,
    repaired: bool,
    as_json: bool,
) -> None:
    """Tell each day's numbers on both sides and every sale that differs; after a repair, what it did.

    `forgotten` are days that were not compared.
    """
    done = {
        "to_sales_history": sum(one.to_table for one in repairs),
        "to_sales_table": sum(one.to_ledger for one in repairs),
        "left_for_a_person": [sale for one in repairs for sale in one.left],
    }
    if as_json:
        told = [{**_day(one), "sales": one.offenders()} for one in days]
        echo_json({"days": told, "not_compared": list(forgotten), "repaired": done if repaired else None})
        return
    rows = [tuple(str(value) for value in _day(one).values()) for one in days]
    echo_table(DAYS_HEADER, rows, DAYS_HEADER[2:])
    for one in days:
        for line in one.offenders():
            click.echo(f"  {printable(line)}")
    if forgotten:
        click.echo(f"{counted(len(forgotten), 'day')} not compared: the sales table forgets a sale after two years")
    if repaired:
        click.echo(
            f"Repaired: {done['to_sales_history']} to sales_history, {done['to_sales_table']} to the sales table"
        )
    differences = sum(one.differences for one in days)
    if differences:
        more = "a person must say which is right" if repaired else "--repair gives each side what it lacks"
        click.echo(f"{counted(differences, 'difference')}; {more}")


def _day(one: DayComparison) -> dict[str, object]:
    values = (one.tenant_id, one.day, one.in_ledger, one.in_table, one.differences)
    return dict(zip(("tenant", "day", "in_sales_table", "in_sales_history", "differences"), values, strict=True))
