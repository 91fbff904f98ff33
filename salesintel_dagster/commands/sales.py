"""`salesintel sales get|put|query|brand|embeddings|delete`: one tenant's sales in DynamoDB.

The tenant is always given, never assumed. Listings are told by `sales_output`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from salesintel_dagster.commands.dates import Day
from salesintel_dagster.commands.session import session

if TYPE_CHECKING:
    from salesintel_dagster.domain.sale_request import RequestRules
    from salesintel_dagster.domain.sales_repository import PageRequest, Period, SalePage, SalesRepository, StoredSale
    from salesintel_dagster.domain.tenancy import CallerContext

SHOWN_SALES = 50
SEASONS = ("WINTER", "SPRING", "SUMMER", "AUTUMN")


Ask = Callable[["Door", "Period", "PageRequest"], "SalePage"]


@dataclass(frozen=True, slots=True)
class Door:
    """The sales table, opened for one tenant."""

    sales: SalesRepository
    caller: CallerContext
    rules: RequestRules


@contextmanager
def door(tenant: str) -> Iterator[Door]:
    """Open the sales table for a tenant. Raises SaleRefused for what is no tenant, before anything is started."""
    from salesintel_dagster.domain.sale_request import RequestRules  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.tenancy import CallerContext  # noqa: PLC0415 - same

    caller = CallerContext(tenant)
    with session() as opened:
        from salesintel_dagster.wiring import sales as wired  # noqa: PLC0415 - boto3, after --help

        rules = RequestRules(opened.settings.zone, opened.settings.hemisphere)
        yield Door(wired.sales_repository(opened.settings, opened.clients), caller, rules)


def _options(*, listing: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the options that these commands share: the tenant, JSON, and for a listing days and pages."""
    given = [click.option("--json", "as_json", is_flag=True, help="JSON on standard output, whole records.")]
    if listing:
        given += [
            click.option("--after", metavar="KEY", help="Go on behind the key that the page before has told."),
            click.option(
                "--limit", type=click.IntRange(1, 10_000), default=SHOWN_SALES, show_default=True, help="Sales a page."
            ),
            click.option("--to", "last", type=Day(), help="Last day of sale, included."),
            click.option("--from", "first", type=Day(), help="First day of sale, included."),
        ]
    given.append(click.option("--tenant", required=True, help="Whose sales; there is no default."))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in given:
            command = option(command)
        return command

    return decorate


@click.group(epilog="Example: salesintel sales get S-1 --tenant carousel-labs")
def sales() -> None:
    """Look up, store and delete a tenant's sales in DynamoDB."""


@sales.command(short_help="One sale by its id.", epilog="Example: salesintel sales get S-1 --tenant carousel-labs")
@click.argument("sale_id", metavar="SALE_ID")
@_options(listing=False)
def get(sale_id: str, tenant: str, *, as_json: bool) -> None:
    """Show one sale. Exit code 1 where the tenant has none of that id."""
    from salesintel_dagster.commands import sales_output as output  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.errors import SaleNotFound  # noqa: PLC0415 - same

    with door(tenant) as opened:
        found = opened.sales.by_sale_id(opened.caller, sale_id)
    if found is None:
        raise SaleNotFound(f"tenant {tenant} has no sale {sale_id!r}")
    output.show_sale(found, as_json=as_json)


@sales.command(
    short_help="Store sales from a file.", epilog="Example: salesintel sales put FILE --tenant carousel-labs"
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE")
@_options(listing=False)
def put(file: str, tenant: str, *, as_json: bool) -> None:
    """Store the sales of FILE (- is standard input): one JSON object, an array of them, or one a line.

    A sale has productId, soldPrice, currency and soldAt, and what else is known: docs/sales-repository.md shows some.
    One that is there stays as it is: the same again is counted, another payload is a conflict. A sale that breaks a
    rule or has expired is told and stops no other. Exit code 1 when one was refused or in conflict.
    """
    from salesintel_dagster.commands import sales_output as output  # noqa: PLC0415 - after --help
    from salesintel_dagster.commands.sales_input import store_all  # noqa: PLC0415 - same

    with click.open_file(file, "rb") as sent, door(tenant) as opened:
        stored = store_all(sent, opened.sales, opened.caller, opened.rules)
    output.show_stored(stored, as_json=as_json)
    if stored.refused or stored.conflicts:
        sys.exit(1)


@sales.command(
    short_help="A category's sales of a season.",
    epilog="Example: salesintel sales query --tenant carousel-labs --category dress --season AUTUMN --from 2026-11-01",
)
@click.option("--category", required=True, help="The category, as it is written in the sales.")
@click.option("--season", type=click.Choice(SEASONS, case_sensitive=False), required=True, help="All its years.")
@_options(listing=True)
def query(category: str, season: str, **given: Any) -> None:  # noqa: ANN401 - click's keywords
    """List a category's sales of a season, over all shards, by day."""

    def ask(opened: Door, period: Period, page: PageRequest) -> SalePage:
        from salesintel_dagster.domain.calendar import Season  # noqa: PLC0415 - after --help

        return opened.sales.category_season(opened.caller, category, Season(season.upper()), period, page)

    _list(ask, given)


@sales.command(
    short_help="A brand's prices.", epilog="Example: salesintel sales brand Ilmari --tenant carousel-labs --limit 10"
)
@click.argument("name", metavar="BRAND")
@_options(listing=True)
def brand(name: str, **given: Any) -> None:  # noqa: ANN401 - click's keywords
    """List a brand's sales by day, with the lowest, middle and highest price of those shown."""
    _list(lambda opened, period, page: opened.sales.brand_prices(opened.caller, name, period, page), given, prices=True)


@sales.command(
    short_help="Where the vectors of a product lie.",
    epilog="Example: salesintel sales embeddings P-1 --tenant carousel-labs --from 2026-11-01 --to 2026-11-20",
)
@click.argument("product", metavar="[PRODUCT]", required=False)
@_options(listing=True)
def embeddings(product: str | None, **given: Any) -> None:  # noqa: ANN401 - click's keywords
    """List the sales that have an embedding, of one PRODUCT or of all, with key, model and dimension."""
    _list(
        lambda opened, period, page: opened.sales.embeddings(opened.caller, product, period, page),
        given,
        vectors=True,
    )


@sales.command(
    short_help="Delete one sale (a dry run without --apply).",
    epilog="Example: salesintel sales delete S-1 --tenant carousel-labs --apply",
)
@click.argument("sale_id", metavar="SALE_ID")
@click.option("--revision", type=click.IntRange(1), help="Only if it is still at this revision.")
@click.option("--apply", "really", is_flag=True, help="Do it. Without it, only tell what would be deleted.")
@_options(listing=False)
def delete(sale_id: str, revision: int | None, tenant: str, *, really: bool, as_json: bool) -> None:
    """Delete a sale from DynamoDB; its row in the Iceberg tables stays."""
    from salesintel_dagster.commands import sales_output as output  # noqa: PLC0415 - after --help

    with door(tenant) as opened:
        found = _deleted(opened, sale_id, revision, really=really)
    output.show_deleted(found, really=really, as_json=as_json)


def _deleted(opened: Door, sale_id: str, revision: int | None, *, really: bool) -> StoredSale:
    from salesintel_dagster.domain.errors import RevisionConflict, SaleNotFound  # noqa: PLC0415 - after --help

    if really:
        return opened.sales.delete(opened.caller, sale_id, revision)
    found = opened.sales.by_sale_id(opened.caller, sale_id)
    if found is None:
        raise SaleNotFound(f"tenant {opened.caller.tenant} has no sale {sale_id!r}")
    if revision is not None and found.revision != revision:
        raise RevisionConflict(f"sale {sale_id!r} is at revision {found.revision}, not {revision}")
    return found


def _list(ask: Ask, given: Mapping[str, Any], *, prices: bool = False, vectors: bool = False) -> None:
    """Ask for the page that the listing's options name, and print it."""
    from salesintel_dagster.commands import sales_output as output  # noqa: PLC0415 - after --help
    from salesintel_dagster.domain.sales_keys import read_key_text  # noqa: PLC0415 - same
    from salesintel_dagster.domain.sales_repository import PageRequest, Period  # noqa: PLC0415 - same

    period = Period(given["first"] or date.min, given["last"] or date.max)
    page = PageRequest(given["limit"], read_key_text(given["after"]) if given["after"] is not None else None)
    with door(given["tenant"]) as opened:
        found = ask(opened, period, page)
    output.show_page(found, as_json=given["as_json"], prices=prices, vectors=vectors)
