"""The rows on their way into one day of the table: all inside the scope, every key once.

Every SalesTable admits its rows through here before it commits, so that real table and fake refuse the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.domain.columns import SALES_SCHEMA
from salesintel_dagster.domain.errors import DuplicateKeys, OutsideScope, SchemaDrift
from salesintel_dagster.domain.ports import DayScope

KEY = ("tenant_id", "sale_id")
MAX_IDS_NAMED = 20
"""Offending ids told in an error or fact: enough to look them up, never a whole day."""


class DayFrame:
    """Counts and checks the rows of one replacement, chunk by chunk; keys are compared over all chunks."""

    def __init__(self, scope: DayScope) -> None:
        self._scope = scope
        self._keys = SALES_SCHEMA.empty_table().select(KEY)
        self.rows = 0

    def admit(self, chunk: pa.Table) -> None:
        """Take the next rows. Raises SchemaDrift, OutsideScope, DuplicateKeys; nothing is taken then."""
        if chunk.schema.names != SALES_SCHEMA.names:
            raise SchemaDrift(f"rows come with columns {chunk.schema.names}, expected {SALES_SCHEMA.names}")
        self._check_scope(chunk)
        keys = pa.concat_tables([self._keys, chunk.select(KEY).cast(self._keys.schema)])
        repeated = repeated_sale_ids(keys)
        if repeated:
            raise DuplicateKeys(f"{self._scope.day}: sale ids that occur more than once: {', '.join(repeated)}")
        self._keys = keys
        self.rows += chunk.num_rows

    def _check_scope(self, chunk: pa.Table) -> None:
        day = self._scope.day
        expected = {
            "tenant_id": self._scope.tenants,
            "sold_date": (day,),
            "year": (day.year,),
            "month": (day.month,),
            "source_system": (self._scope.source_system,),
        }
        for name, allowed in expected.items():
            column = chunk.column(name)
            inside = pc.is_in(column, value_set=pa.array(allowed, column.type))
            if not pc.all(inside, min_count=0).as_py():
                first = chunk.filter(pc.invert(inside)).slice(0, 1).to_pylist()[0]
                raise OutsideScope(
                    f"sale {first['sale_id']!r}: {name} {first[name]!r} is not of the day being replaced"
                )


def repeated_sale_ids(keys: pa.Table) -> tuple[str, ...]:
    """Return the first sale ids whose (tenant_id, sale_id) occurs more than once, in order."""
    counts = keys.group_by(KEY).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts.column("count_all"), 1)).column("sale_id")
    return tuple(sorted(repeated.to_pylist())[:MAX_IDS_NAMED])


def chunked(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Gather batches into tables of at most `rows` rows, so that one table is one data file a tenant."""
    held: list[pa.RecordBatch] = []
    count = 0
    for whole in batches:
        rest = whole
        while rest.num_rows:
            taken = rest.slice(0, rows - count)
            rest = rest.slice(taken.num_rows)
            held.append(taken)
            count += taken.num_rows
            if count == rows:
                yield pa.Table.from_batches(held)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held)
