"""One Iceberg table of a catalog that is opened once, on first use and again after a failure to open it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.table_layout import PARTITION_COLUMNS, load_or_create

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


class OpenedTable:
    """Call it for the table's present state. Raises SchemaDrift, and the vendor's errors."""

    def __init__(
        self,
        connect: Callable[[], Catalog],
        name: str,
        columns: pa.Schema,
        partitions: tuple[str, ...] = PARTITION_COLUMNS,
    ) -> None:
        self._connect = connect
        self._name = name
        self._columns = columns
        self._partitions = partitions
        self._catalog: Catalog | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Table:
        """Load the table, made on first use."""
        with self._lock:
            if self._catalog is None:
                self._catalog = self._connect()
        return load_or_create(self._catalog, self._name, self._columns, self._partitions)
