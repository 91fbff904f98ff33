"""`salesintel ttl backfill`: a ttl for the sales that were written without one."""

from __future__ import annotations

import click

from salesintel_dagster.commands.session import session

SECONDS_BETWEEN_LINES = 3.0


@click.group(epilog="Example: salesintel ttl backfill --apply")
def ttl() -> None:
    """When sales expire in DynamoDB."""


@ttl.command(
    short_help="Give sales without a ttl theirs (a dry run without --apply).",
    epilog="Example: salesintel ttl backfill --apply --rate 500",
)
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only count what would get a ttl.")
@click.option("--restart", is_flag=True, help="Begin anew instead of where an unfinished backfill stopped.")
@click.option(
    "--rate", type=click.IntRange(1, 5_000), default=200, show_default=True, help="Items read and written a second."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def backfill(*, really: bool, restart: bool, rate: int, as_json: bool) -> None:
    """Give every sale without a ttl the one of its day: two years after it.

    Over all tenants. An item that has a ttl is not touched. Killed at any moment, it goes on where it was.
    """
    from salesintel_dagster.commands.output import counted, echo_json, printable, say  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.clock import SYSTEM_CLOCK  # noqa: PLC0415 - same
    from salesintel_dagster.domain.ttl_backfill import TtlRehearsal, TtlTally  # noqa: PLC0415 - same
    from salesintel_dagster.flows.ttl_backfill import Pace, backfill_ttl, lines  # noqa: PLC0415 - same

    tally, told_at = TtlTally(), SYSTEM_CLOCK.monotonic()
    with session() as opened:
        from salesintel_dagster.wiring import sales as wired  # noqa: PLC0415 - boto3, after --help

        store = wired.ttl_store(opened.settings, opened.clients)
        ports = store if really else TtlRehearsal(store)
        begun = None if restart else ports.checkpoint()
        if begun is not None:
            done = counted(begun.tally.scanned, "item")
            say(f"Going on behind the {done} of a backfill that did not end; --restart begins anew")
        for tally in backfill_ttl(ports, SYSTEM_CLOCK, Pace(items_per_second=rate), restart=restart):
            if SYSTEM_CLOCK.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                told_at = SYSTEM_CLOCK.monotonic()
                say(lines(tally, dry_run=not really)[0])
    if as_json:
        echo_json({"applied": really, "tally": tally})
        return
    for line in lines(tally, dry_run=not really):
        click.echo(printable(line))
    if not really:
        click.echo("Nothing was done; --apply does it.")
