"""What the daily checks ask of `sales_history`: SQL by DuckDB for keys and joins, a plain scan for vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.planned_files import scan
from salesintel_dagster.adapters.sql_reader import query
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE, NAMESPACE, SALES_TABLE
from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.history_facts import MOST_NAMED, HistoryFacts

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

VECTORS_OF = ("tenant_id", "sale_id", "embedding_vector")
REPEATED = f"""
SELECT tenant_id || '/' || sale_id || ': ' || count(*) || ' rows' AS told
FROM {HISTORY_TABLE} GROUP BY tenant_id, sale_id HAVING count(*) > 1 ORDER BY told LIMIT {MOST_NAMED}
"""  # noqa: S608 - our own names
IN_BOTH = f"""
SELECT DISTINCT h.tenant_id || '/' || h.sale_id || ': ' || h.sold_date || ' ' || h.product_id
    || ', {SALES_TABLE} has it as ' || s.sale_id AS told
FROM {HISTORY_TABLE} h JOIN {SALES_TABLE} s
    USING (tenant_id, product_id, sold_price, currency, sold_date)
WHERE sold_date IN (DAYS) ORDER BY told LIMIT {MOST_NAMED}
"""  # noqa: S608 - our own names


class IcebergHistoryFacts(HistoryFacts):
    """`connect` opens the catalog; it is closed again after each question."""

    def __init__(self, connect: Callable[[], Catalog]) -> None:
        self._connect = connect

    def repeated(self) -> list[str]:
        """Return the sales that are there more than once."""
        return self._told(REPEATED, HISTORY_TABLE)

    def in_both_sources(self, days: Sequence[date]) -> list[str]:
        """Return the sales of the days that `smartgo_sales` seems to have too."""
        literals = ", ".join(f"DATE '{day.isoformat()}'" for day in days)
        return self._told(IN_BOTH.replace("DAYS", literals), HISTORY_TABLE, SALES_TABLE)

    def vectors(self, days: Sequence[date]) -> Iterator[pa.RecordBatch]:
        """Stream the days' vectors."""
        from pyiceberg.expressions import In  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

        among: Callable[[str, object], In] = In  # type: ignore[assignment]  # pydantic hides the real signature
        with translated():
            catalog = self._connect()
            try:
                if catalog.table_exists((NAMESPACE, HISTORY_TABLE)):
                    table = catalog.load_table((NAMESPACE, HISTORY_TABLE))
                    yield from scan(table, among("sold_date", set(days)), VECTORS_OF, HISTORY_SCHEMA)
            finally:
                catalog.close()

    def _told(self, statement: str, *tables: str) -> list[str]:
        with translated():
            catalog = self._connect()
            try:
                if not all(catalog.table_exists((NAMESPACE, table)) for table in tables):
                    return []
                return [told for batch in query(catalog, statement) for told in batch["told"].to_pylist()]
            finally:
                catalog.close()
