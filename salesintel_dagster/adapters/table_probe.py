"""Whether an Iceberg table can be loaded, is laid out as we write it, and may be written.

What `salesintel doctor` asks; no table is changed or made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.table_layout import NAMESPACE, check_layout

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


@dataclass(frozen=True, slots=True)
class TableState:
    """A table that was found, and may be written."""

    snapshots: int


def table_state(
    connect: Callable[[], Catalog], name: str, columns: pa.Schema, partitions: tuple[str, ...]
) -> TableState | None:
    """Load the table once, and ask storage and catalog whether it may be written.

    None where it was never made, and then only the catalog was asked. Raises TableUnavailable, TableRefused where
    reading or writing is not permitted, SchemaDrift.
    """
    from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415 - pyiceberg costs 1 CPU-s

    from salesintel_dagster.adapters.table_write_probe import check_commit, check_store  # noqa: PLC0415 - same

    with translated(), closing(connect()) as catalog:
        try:
            table = catalog.load_table((NAMESPACE, name))
        except NoSuchTableError:
            check_commit(catalog, name, None)
            return None
        check_layout(table, columns, partitions)
        check_store(table)
        check_commit(catalog, name, table)
        return TableState(len(table.metadata.snapshots))
