"""Which rows of `sales_history` are meant, as expression objects: no id or tenant is ever part of a parsed text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.domain.keyed_table import TableMonth

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression


def of_sales(rows: pa.Table) -> BooleanExpression:
    """Return the table's rows of these sales, each looked for in its own month."""
    from pyiceberg.expressions import And, EqualTo, In, Or  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    sales: defaultdict[tuple[str, int, int], set[str]] = defaultdict(set)
    columns = (rows[name].to_pylist() for name in ("tenant_id", "year", "month", "sale_id"))
    for tenant, year, month, sale in zip(*columns, strict=True):
        sales[tenant, year, month].add(sale)
    months: list[BooleanExpression] = [
        And(equal("tenant_id", tenant), equal("year", year), equal("month", month), among("sale_id", ids))
        for (tenant, year, month), ids in sorted(sales.items())
    ]
    return reduce(Or, months)


def of_month(month: TableMonth) -> BooleanExpression:
    """Return the rows of one partition."""
    from pyiceberg.expressions import And, EqualTo  # noqa: PLC0415 - see of_sales

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    return And(*(equal(name, value) for name, value in month._asdict().items()))


def of_tenant(tenant_id: str, sale_ids: Collection[str]) -> BooleanExpression:
    """Return a tenant's rows with these ids, whatever their month."""
    from pyiceberg.expressions import And, EqualTo, In  # noqa: PLC0415 - see of_sales

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    return And(equal("tenant_id", tenant_id), among("sale_id", set(sale_ids)))


def day_of(tenant_id: str, day: date, sale_ids: Collection[str] | None = None) -> BooleanExpression:
    """Return a tenant's rows of one day, or those of them with these ids."""
    from pyiceberg.expressions import And, EqualTo, In  # noqa: PLC0415 - see of_sales

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    whole = And(
        equal("tenant_id", tenant_id), equal("year", day.year), equal("month", day.month), equal("sold_date", day)
    )
    return whole if sale_ids is None else And(whole, among("sale_id", set(sale_ids)))
