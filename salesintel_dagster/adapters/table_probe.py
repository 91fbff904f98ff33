"""Whether an Iceberg table can be loaded and is laid out as we write it: what `salesintel doctor` asks. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.table_layout import NAMESPACE, check_layout

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


@dataclass(frozen=True, slots=True)
class TableState:
    """A table that was found."""

    snapshots: int


def table_state(
    connect: Callable[[], Catalog], name: str, columns: pa.Schema, partitions: tuple[str, ...]
) -> TableState | None:
    """Load the table once; None where it was never made. Raises TableUnavailable, SchemaDrift."""
    from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415 - pyiceberg costs 1 CPU-s

    with translated():
        catalog = connect()
        try:
            table = catalog.load_table((NAMESPACE, name))
        except NoSuchTableError:
            return None
        finally:
            catalog.close()
        check_layout(table, columns, partitions)
        return TableState(len(table.metadata.snapshots))
