"""`salesintel shards verify`: how evenly ids, or the sales that are there, spread over the shards."""

from __future__ import annotations

import sys

import click

from salesintel_dagster.commands.session import session


@click.group(epilog="Example: salesintel shards verify --tenant carousel-labs")
def shards() -> None:
    """How sales spread over the shards of the sales table."""


@shards.command(
    short_help="Are the shards even?",
    epilog="Example: salesintel shards verify FILE --shards 10; or of what is there: --tenant carousel-labs",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), required=False, metavar="[FILE]")
@click.option("--shards", "count", type=click.IntRange(1, 256), help="Over which to spread FILE's ids; 10 by default.")
@click.option("--tenant", help="Count this tenant's sales in the table instead.")
@click.option("--category", help="Of one category (GSI1); else all the tenant's sales by day (GSI2).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(file: str | None, count: int | None, tenant: str | None, category: str | None, *, as_json: bool) -> None:
    """Tell the sizes of the shards and the fullest over the mean, 1.05 at most; with few ids what chance explains.

    FILE holds one id a line (- is standard input). Exit code 1 when they are uneven.
    """
    from salesintel_dagster.commands.output import echo_json, echo_table  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.shards import (  # noqa: PLC0415 - same
        CATEGORY_SHARDS,
        ShardDistribution,
        verify_shard_distribution,
    )

    if (file is None) == (tenant is None) or (file is None and count is not None) or (tenant is None and category):
        raise click.UsageError("give either FILE and --shards if you like, or --tenant and --category if you like")
    if file is not None:
        with click.open_file(file, "rb") as lines:
            ids = (line.decode("utf-8", "replace").rstrip("\r\n") for line in lines)
            found = verify_shard_distribution((one for one in ids if one), count or CATEGORY_SHARDS)
    else:
        found = ShardDistribution(_census(str(tenant), category))
    told = {"ids": found.ids, "skew": round(found.skew, 4), "allowed": round(found.allowed_skew, 4)}
    if as_json:
        echo_json({**told, "even": found.is_even, "sizes": found.sizes})
    else:
        rows = [(str(shard), str(size)) for shard, size in enumerate(found.sizes)]
        echo_table(("shard", "sales"), rows, {"shard", "sales"})
        word = "even" if found.is_even else "UNEVEN"
        click.echo(f"{word}: {found.ids} in all; fullest / mean {found.skew:.3f}, allowed {found.allowed_skew:.3f}")
    if not found.is_even:
        sys.exit(1)


def _census(tenant: str, category: str | None) -> tuple[int, ...]:
    from salesintel_dagster.domain.tenancy import CallerContext  # noqa: PLC0415 - after --help

    caller = CallerContext(tenant)
    with session() as opened:
        from salesintel_dagster.wiring import sales as wired  # noqa: PLC0415 - boto3, after --help

        return wired.shard_census(opened.settings, opened.clients).sizes(caller, category)
