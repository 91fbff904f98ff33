"""Rows that were paid for and not stored, in the enrichment status table: it is there when the Iceberg table is not.

A batch's rows are Arrow streams in as many items as they need: DynamoDB takes 400 KB an item. Each item stands for
itself, so one that was not written, or is from a version with other columns, costs its own rows alone. Of two rows of
a product the one in the later item stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pyarrow as pa

from salesintel_dagster.adapters import enrichment_items as items
from salesintel_dagster.adapters.enrichment_ledger import StatusTable
from salesintel_dagster.domain.enrichment.batch import BatchKey
from salesintel_dagster.domain.enrichment.ports import PaidRows
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA, table_of

MAX_PART_BYTES = 300 * 1024
"""The largest row (32 KiB of the catalog, some 60 of the provider) fits; the item's other attributes are short."""
_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")


class DynamoPaidRows(PaidRows):
    """Some items a batch, under a hash key of their own, so that no query for jobs or batches reads them."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table

    def keep(self, batch: BatchKey, rows: pa.Table) -> None:
        """Put the rows into items after those that are there: what is kept is not written again, and so not lost.

        Raises LedgerUnavailable.
        """
        for number, part in zip(count(self._last_part(batch) + 1), _parts(rows), strict=False):
            self._table.put(items.paid_at(batch, number) | items.paid_item(batch, part, self._table.now()))

    def of(self, batch: BatchKey) -> pa.Table:
        """Read them back. Raises LedgerUnavailable."""
        with self._table.translated("read"):
            parts = [pa.ipc.open_stream(item["rows"]["B"]).read_all() for item in self._items(batch)]
            ours = [part for part in parts if part.schema.equals(ENRICHMENT_SCHEMA)]
            return table_of(row for part in ours for row in part.to_pylist())

    def forget(self, batch: BatchKey) -> None:
        """Delete their items. Raises LedgerUnavailable."""
        for item in self._items(batch):
            self._table.delete(Key={name: item[name] for name in (items.HASH, items.RANGE)})

    def _last_part(self, batch: BatchKey) -> int:
        with self._table.translated("read"):
            return max((int(item[items.RANGE]["S"].rpartition("#")[2]) for item in self._items(batch)), default=0)

    def _items(self, batch: BatchKey) -> list[items.Item]:
        return list(
            self._table.query(
                KeyConditionExpression="catalog_id = :paid AND begins_with(batch_id, :batch)",
                ExpressionAttributeValues={
                    ":paid": items.paid_at(batch, 1)[items.HASH],
                    ":batch": {"S": f"{batch.batch_id}#"},
                },
                ConsistentRead=True,
            )
        )


def _parts(rows: pa.Table) -> Iterator[bytes]:
    """Yield the rows packed, halved until each part fits."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_ZSTD) as stream:
        stream.write_table(rows)
    packed = sink.getvalue().to_pybytes()
    if len(packed) <= MAX_PART_BYTES or rows.num_rows == 1:
        yield packed
        return
    half = rows.num_rows // 2
    yield from _parts(rows.slice(0, half))
    yield from _parts(rows.slice(half))
