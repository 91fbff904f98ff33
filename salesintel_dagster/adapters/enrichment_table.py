"""The Iceberg table `product_enrichment` behind its port, and the only module that writes its rows.

A round is one commit: load the table, look which of the round's products it holds, and exchange the files that hold
older rows of them for files without, beside the new ones. The snapshot is refused if anybody has written one of these
products since; whoever loses, or does not know what became of his commit, looks again. A row that was enriched later
stays. File rule: one data file never mixes tenants.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa

from salesintel_dagster.adapters.commit_attempts import CommitAttempts, translated
from salesintel_dagster.adapters.commit_witness import CommitWitness
from salesintel_dagster.adapters.opened_table import OpenedTable
from salesintel_dagster.adapters.planned_files import scan
from salesintel_dagster.adapters.table_layout import ENRICHMENT_TABLE
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.enrichment.ports import Enriched, EnrichmentTable
from salesintel_dagster.domain.enrichment.rows import ENRICHMENT_SCHEMA, KEY
from salesintel_dagster.domain.errors import DuplicateKeys, SchemaDrift
from salesintel_dagster.domain.retry import RetryPolicy

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

PARTITIONS = ("tenant_id",)
COMMIT_RETRY = RetryPolicy(retries=4, base_seconds=0.2, deadline_seconds=60.0)
"""Five attempts in all; well within a worker's lease."""
_TOLD = (*KEY, "enriched_at")
Key = tuple[str, str]


class IcebergEnrichmentTable(EnrichmentTable):
    """`connect` opens the catalog, on first use and again after a failure to open it; it is kept after that."""

    def __init__(
        self,
        connect: Callable[[], Catalog],
        clock: Clock,
        *,
        name: str = ENRICHMENT_TABLE,
        retry: RetryPolicy = COMMIT_RETRY,
    ) -> None:
        self._attempts = CommitAttempts(clock, retry)
        self._load = OpenedTable(connect, name, ENRICHMENT_SCHEMA, PARTITIONS)

    def merge(self, rows: pa.Table, properties: Mapping[str, str]) -> Enriched:
        """Write the rows over those of the same products, in one commit. See the port for what is raised."""
        if rows.schema.names != ENRICHMENT_SCHEMA.names:
            raise SchemaDrift(f"rows come with columns {rows.schema.names}, expected {ENRICHMENT_SCHEMA.names}")
        if len(_keys(rows)) < rows.num_rows:
            raise DuplicateKeys(f"{rows.num_rows} rows of {len(_keys(rows))} products: each may be there once")
        writing = _Writing(rows, properties)
        tries, _ = self._attempts.until_done(lambda: writing.attempt(self._load()))
        written = writing.new.num_rows
        return Enriched(written, rows.num_rows - written, writing.witness.last_snapshot_id, tries)

    def held(self, tenant: str, products: Collection[str], columns: Sequence[str]) -> pa.Table:
        """Return some columns of a tenant's rows of these products. Raises TableUnavailable, SchemaDrift."""
        wanted = tuple(columns)
        schema = pa.schema([ENRICHMENT_SCHEMA.field(name) for name in wanted])
        if not products:
            return schema.empty_table()
        where = of_products({tenant: set(products)})
        return self._attempts.until_done(
            lambda: pa.Table.from_batches(scan(self._load(), where, wanted, ENRICHMENT_SCHEMA), schema)
        )[1]

    def provider_counts(self) -> dict[str, int]:
        """Count the rows by provider, reading that column alone. Raises TableUnavailable, SchemaDrift."""
        return self._attempts.until_done(self._counted)[1]

    def _counted(self) -> dict[str, int]:
        from pyiceberg.expressions import AlwaysTrue  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

        counted: Counter[str] = Counter()
        with translated():
            for batch in scan(self._load(), AlwaysTrue(), ("provider",), ENRICHMENT_SCHEMA):
                for found in batch.column("provider").value_counts():
                    counted[found["values"].as_py()] += found["counts"].as_py()
        return dict(counted)


@dataclass(slots=True)
class _Writing:
    """One round's rows on their way into the table, over all attempts."""

    rows: pa.Table
    properties: Mapping[str, str]
    witness: CommitWitness = field(default_factory=CommitWitness)
    new: pa.Table = field(init=False)

    def attempt(self, table: Table) -> None:
        """Put the rows on top of the table's present state."""
        if self.witness.landed(table.metadata):
            return
        held = _held(table, self.rows)
        stands = [_is_newer(held.get(key), at) for key, at in _told(self.rows)]
        self.new = self.rows.filter(pa.array([not one for one in stands], pa.bool_()))
        if not self.new.num_rows:
            return
        from salesintel_dagster.adapters.file_exchange import FileExchange  # noqa: PLC0415 - imports pyiceberg
        from salesintel_dagster.adapters.table_transaction import OneCopyTransaction  # noqa: PLC0415 - same

        replaced = _keys(self.new) & held.keys()
        gone, kept = _without(table, replaced) if replaced else ([], [])
        new_files = [*_written(table, self.new), *kept]
        self.witness.watch(table)
        with OneCopyTransaction(table) as transaction:
            FileExchange(transaction, self.properties, of_products(_by_tenant(self.new)), (gone, new_files)).commit()


def of_products(products: Mapping[str, Collection[str]]) -> BooleanExpression:
    """Return the rows of these products by tenant, as expression objects: no id is ever part of a parsed text."""
    from pyiceberg.expressions import And, EqualTo, In, Or  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    of_each: list[BooleanExpression] = [
        And(equal("tenant_id", tenant), among("product_id", set(named))) for tenant, named in sorted(products.items())
    ]
    return reduce(Or, of_each)


def _told(rows: pa.Table | pa.RecordBatch) -> list[tuple[Key, datetime]]:
    tenants, products, moments = (rows.column(name).to_pylist() for name in _TOLD)
    return list(zip(zip(tenants, products, strict=True), moments, strict=True))


def _keys(rows: pa.Table) -> set[Key]:
    return {key for key, _ in _told(rows)}


def _by_tenant(rows: pa.Table) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for tenant, product in _keys(rows):
        found[tenant].add(product)
    return found


def _held(table: Table, rows: pa.Table) -> dict[Key, datetime]:
    """Return when the table's rows of these products were enriched. Raises DuplicateKeys where one is there twice."""
    held: dict[Key, datetime] = {}
    for batch in scan(table, of_products(_by_tenant(rows)), _TOLD, ENRICHMENT_SCHEMA):
        for key, at in _told(batch):
            if key in held:
                raise DuplicateKeys(f"the table holds product {key[1]!r} of {key[0]} twice")
            held[key] = at
    return held


def _is_newer(held_at: datetime | None, at: datetime) -> bool:
    return held_at is not None and held_at > at


def _written(table: Table, rows: pa.Table) -> list[DataFile]:
    """Write rows into data files, one a tenant; a column of the table that they do not have is null."""
    from pyiceberg.io.pyarrow import _dataframe_to_data_files  # noqa: PLC0415 - see of_products

    schema = table.schema().as_arrow()
    named = set(rows.schema.names)
    columns = [rows.column(one.name) if one.name in named else pa.nulls(rows.num_rows, one.type) for one in schema]
    fitted = pa.Table.from_arrays(columns, schema.names).cast(schema)
    return list(_dataframe_to_data_files(table.metadata, fitted, table.io))


def _without(table: Table, leaving: set[Key]) -> tuple[list[DataFile], list[DataFile]]:
    """Return the files that hold these products, and what is to stand for them without."""
    from salesintel_dagster.adapters.table_facts import rows_of  # noqa: PLC0415 - imports pyiceberg

    by_tenant: defaultdict[str, set[str]] = defaultdict(set)
    for tenant, product in leaving:
        by_tenant[tenant].add(product)
    gone: list[DataFile] = []
    kept: list[DataFile] = []
    for task in table.scan(row_filter=of_products(by_tenant)).plan_files():
        rows = pa.Table.from_batches(rows_of(table, [task]))
        rest = rows.filter(pa.array([key not in leaving for key, _ in _told(rows)], pa.bool_()))
        if rest.num_rows < rows.num_rows:
            gone.append(task.file)
            kept += _written(table, rest) if rest.num_rows else []
    return gone, kept
