"""A `sales_history` that takes no commit with certain rows in it, as Iceberg does for a value that fits no column."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from salesintel_dagster.domain.errors import RowsRefused
from salesintel_dagster.domain.keyed_table import KeyedCommit, KeyedTable
from salesintel_dagster_tests.harness.mutants import OtherWrites


class Refusing(OtherWrites):
    """Refuses rows of these versions of these sales."""

    def __init__(self, true: KeyedTable, *refused: tuple[str, int]) -> None:
        super().__init__(true)
        self.refused = set(refused)

    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:
        if self.refused & set(zip(rows["sale_id"].to_pylist(), rows["event_version"].to_pylist(), strict=True)):
            raise RowsRefused("a value fits no column")
        return self.true.write_new(rows, properties)
