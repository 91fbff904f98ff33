"""How `salesintel sales` tells what it found: tables for people, whole records as JSON for scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

import click

from salesintel_dagster.commands.output import counted, echo_json, echo_table, printable
from salesintel_dagster.commands.sales_input import Stored
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import key_text
from salesintel_dagster.domain.sales_repository import SalePage, StoredSale

SHOWN_PROBLEMS = 20
_FIELDS = ("sale_id", "product_id", "category", "brand", "condition", "sold_price", "currency", "sold_date", "season")
_HEADER = ("sale", "product", "category", "brand", "condition", "price", "currency", "sold", "season", "revision")
_VECTOR_HEADER = ("sale", "product", "sold", "vector", "model", "dimension")


def show_sale(sale: StoredSale, *, as_json: bool) -> None:
    """Print one sale, a field a line."""
    told = _as_dict(sale)
    if as_json:
        echo_json(told)
        return
    width = max(map(len, told))
    for name, value in told.items():
        click.echo(f"{name:<{width}}  {printable('-' if value is None else str(value))}")


def show_page(page: SalePage, *, as_json: bool, prices: bool, vectors: bool) -> None:
    """Print a page of sales and how to get the next."""
    after = key_text(page.after) if page.after is not None else None
    if as_json:
        summary = {"prices": _prices(page.sales)} if prices else {}
        echo_json({"sales": [_as_dict(sale) for sale in page.sales], "after": after, **summary})
        return
    if not page.sales:
        click.echo("No sale.")
        return
    if vectors:
        echo_table(_VECTOR_HEADER, [_vector_cells(sale.record) for sale in page.sales], {"dimension"})
    else:
        echo_table(_HEADER, [_cells(sale) for sale in page.sales], {"price", "revision"})
    for one in _prices(page.sales) if prices else ():
        counts = counted(int(str(one["sales"])), "sale")
        click.echo(f"{counts} in {one['currency']}: {one['lowest']} to {one['highest']}, middle {one['middle']}")
    if after is not None:
        click.echo(f"There is more; the next page: --after '{after}'")


def show_stored(stored: Stored, *, as_json: bool) -> None:
    """Print what became of a file of sales."""
    if as_json:
        echo_json(stored)
        return
    told = [f"{stored.created} stored", f"{stored.duplicates} there already", f"{stored.repeated} repeated"]
    click.echo(", ".join([*told, f"{len(stored.conflicts)} in conflict", f"{len(stored.refused)} refused"]))
    for word, problems in (("conflict", stored.conflicts), ("refused", stored.refused)):
        for problem in problems[:SHOWN_PROBLEMS]:
            click.echo(f"  {word}: {printable(problem.sale_id)}: {printable(problem.reason)}")
        if len(problems) > SHOWN_PROBLEMS:
            click.echo(f"  ... {len(problems) - SHOWN_PROBLEMS} more; --json names all")


def show_deleted(sale: StoredSale, *, really: bool, as_json: bool) -> None:
    """Print what was deleted, or would be."""
    if as_json:
        echo_json({"applied": really, "sale": _as_dict(sale)})
        return
    record = sale.record
    what = f"sale {record.sale_id} of product {record.product_id}, {record.sold_date}, revision {sale.revision}"
    ending = "deleted" if really else "would be deleted; nothing was done (--apply does it)"
    click.echo(f"{printable(what)}: {ending}")


def _as_dict(sale: StoredSale) -> dict[str, object]:
    record = sale.record
    names = (*_FIELDS, "sold_at", "listed_price", "days_to_sell", "vendor_id", "description", "source_system")
    return {
        "tenant": record.tenant,
        **{name: getattr(record, name) for name in names},
        "embedding_s3_key": record.embedding.s3_key if record.embedding else None,
        "embedding_model": record.embedding.model if record.embedding else None,
        "embedding_dimension": record.embedding.dimension if record.embedding else None,
        "payload_hash": record.payload_hash,
        "event_version": record.event_version,
        "revision": sale.revision,
        "ttl": sale.ttl,
        "expires_at": _expires_at(sale.ttl),
    }


def _expires_at(ttl: int | None) -> datetime | None:
    """Return when it expires; None for a ttl beyond the calendar, such as one that other software wrote in ms."""
    try:
        return None if ttl is None else datetime.fromtimestamp(ttl, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _cells(sale: StoredSale) -> list[str]:
    values = [getattr(sale.record, name) for name in _FIELDS]
    return [*(printable("-" if value is None else str(value)) for value in values), str(sale.revision)]


def _vector_cells(record: SaleRecord) -> list[str]:
    pointer = record.embedding
    values = (record.sale_id, record.product_id, record.sold_date)
    told = (pointer.s3_key, pointer.model, pointer.dimension) if pointer else ("-", "-", "-")
    return [printable(str(value)) for value in (*values, *told)]


def _prices(sales: Iterable[StoredSale]) -> list[dict[str, object]]:
    """Return lowest, middle and highest price by currency: prices of different currencies are never compared."""
    by_currency: defaultdict[str, list[Decimal]] = defaultdict(list)
    for sale in sales:
        by_currency[sale.record.currency].append(sale.record.sold_price)
    return [
        {"currency": currency, "sales": len(found), "lowest": found[0], "middle": _middle(found), "highest": found[-1]}
        for currency, found in sorted((currency, sorted(prices)) for currency, prices in by_currency.items())
    ]


def _middle(prices: list[Decimal]) -> Decimal:
    """Return the median; of two middle prices the lower, so that it is a price that was paid."""
    return prices[(len(prices) - 1) // 2]
