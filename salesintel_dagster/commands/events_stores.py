"""`salesintel events reconcile`: both stores side by side, and what one lacks given back by the other."""

from __future__ import annotations

import sys
import uuid
from datetime import date

import click

from salesintel_dagster.commands.dates import DayRange
from salesintel_dagster.commands.session import session

SETTLE_SECONDS = 30.0
DAYS_TOGETHER = 31
"""Days that wait together for what is under way."""


@click.command(
    short_help="Do both stores hold the same sales?",
    epilog="Example: salesintel events reconcile 2026-11-01..2026-11-20 --repair",
)
@click.argument("days", type=DayRange(), metavar="DATE[..DATE]")
@click.option("--repair", is_flag=True, help="Give each side what it lacks, then compare again.")
@click.option(
    "--settle",
    "settle_seconds",
    type=click.FloatRange(0, 600),
    default=SETTLE_SECONDS,
    show_default=True,
    help="Seconds after which a difference is looked at again before it counts; 0 where no event is under way.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def reconcile(days: list[date], settle_seconds: float, *, repair: bool, as_json: bool) -> None:
    """Compare sales_history with the sales table, day by day of sale: ids and payload hashes, both ways.

    A sale that an event has just brought is in one store moments before it is in the other, so what differs is looked
    at again. Of two payloads of a sale the higher eventVersion stands; two of one version are left for a person. A
    repair brings no vector; the event itself, whenever it comes again, completes what a repair wrote of it. Days
    that the sales table has forgotten, two years after their sales, are not compared. Exit code 1 while a difference
    remains.
    """
    with session() as opened:
        from salesintel_dagster.commands.events_output import progress  # noqa: PLC0415 - after --help
        from salesintel_dagster.commands.reconcile_output import show_days  # noqa: PLC0415 - same
        from salesintel_dagster.wiring.event_checks import reconciliation  # noqa: PLC0415 - boto3, pyiceberg

        both = reconciliation(opened.settings, opened.clients, settle_seconds)
        tenants = opened.settings.tenants_of_events
        compared = []
        with progress("days compared", len(days)) as tell:
            for start in range(0, len(days), DAYS_TOGETHER):
                compared += both.compare(tenants, days[start : start + DAYS_TOGETHER])
                tell(min(len(days), start + DAYS_TOGETHER))
        differing = [one for one in compared if one.differences]
        repairs = []
        if repair and differing:
            run_id = f"reconcile-{uuid.uuid4()}"
            repairs = [both.repair(one, run_id) for one in differing]
            again = {(one.tenant_id, one.day): one for one in both.compare(tenants, [one.day for one in differing])}
            compared = [again.get((one.tenant_id, one.day), one) for one in compared]
    forgotten = sorted(set(days) - {one.day for one in compared})
    show_days(compared, repairs, forgotten, repaired=repair, as_json=as_json)
    if any(one.differences for one in compared):
        sys.exit(1)
