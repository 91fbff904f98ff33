"""The keyed Iceberg table `sales_history` behind the KeyedTable port, and the only module that writes its rows.

A batch is one commit: load the table, look which of the batch's sales it holds, and put the others in by a snapshot
that is refused if anybody has written one of them since. The loser of a race, and whoever does not know what became
of his commit, looks again. File rule: one data file never mixes days or tenants, so that compaction and readers by
day find whole files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from salesintel_dagster.adapters.commit_attempts import CommitAttempts
from salesintel_dagster.adapters.commit_witness import CommitWitness
from salesintel_dagster.adapters.history_filters import day_of, of_sales, of_tenant
from salesintel_dagster.adapters.history_index import HistoryIndex
from salesintel_dagster.adapters.opened_table import OpenedTable
from salesintel_dagster.adapters.planned_files import scan
from salesintel_dagster.adapters.table_layout import HISTORY_TABLE
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.columns import HISTORY_SCHEMA
from salesintel_dagster.domain.day_frame import KEY, repeated_sale_ids
from salesintel_dagster.domain.errors import DuplicateKeys, RowsRefused, SchemaDrift
from salesintel_dagster.domain.keyed_table import KeyedCommit, KeyedTable, Place, RowTold, TableMonth
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.sale_event import SaleIdentity

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

COMMIT_RETRY = RetryPolicy(retries=4, base_seconds=0.2, deadline_seconds=60.0)
"""Five attempts in all; between them pyiceberg puts our commit on top of commits of other rows by itself."""
_TOLD = (*KEY, *RowTold._fields)


class IcebergHistoryTable(KeyedTable):
    """`connect` opens the catalog, on first use and again after a failure to open it; it is kept after that."""

    def __init__(
        self,
        connect: Callable[[], Catalog],
        clock: Clock,
        *,
        name: str = HISTORY_TABLE,
        retry: RetryPolicy = COMMIT_RETRY,
    ) -> None:
        self._clock = clock
        self._attempts = CommitAttempts(clock, retry)
        self._load = OpenedTable(connect, name, HISTORY_SCHEMA)
        self._index = HistoryIndex()

    def write_new(self, rows: pa.Table, properties: Mapping[str, str]) -> KeyedCommit:
        """Write those of the rows that the table does not hold, in one commit. See the port for what is raised."""
        if rows.schema.names != HISTORY_SCHEMA.names:
            raise SchemaDrift(f"rows come with columns {rows.schema.names}, expected {HISTORY_SCHEMA.names}")
        if repeated := repeated_sale_ids(rows.select(KEY)):
            raise DuplicateKeys(f"sale ids that occur more than once in a batch: {', '.join(repeated)}")
        writing = _Writing(rows, properties, self._index)
        started = self._clock.monotonic()
        tries, _ = self._attempts.until_done(lambda: writing.attempt(self._load()))
        return writing.commit(tries, self._clock.monotonic() - started)

    def of_day(self, tenant_id: str, day: date) -> Mapping[str, str]:
        """Return the payload hash by sale id of a tenant's day. Raises DuplicateKeys, TableUnavailable, SchemaDrift."""
        found = self._attempts.until_done(lambda: _read(self._load(), day_of(tenant_id, day), _TOLD))[1]
        if repeated := repeated_sale_ids(found.select(KEY)):
            raise DuplicateKeys(f"{tenant_id}, {day}: sale ids that occur more than once: {', '.join(repeated)}")
        return dict(zip(found["sale_id"].to_pylist(), found["payload_hash"].to_pylist(), strict=True))

    def days_of(self, tenant_id: str, sale_ids: Collection[str]) -> Mapping[str, date]:
        """Return the day of each of these sales. Raises TableUnavailable, SchemaDrift."""
        if not sale_ids:
            return {}
        where, columns = of_tenant(tenant_id, sale_ids), ("sale_id", "sold_date")
        found = self._attempts.until_done(lambda: _read(self._load(), where, columns))[1]
        return dict(zip(found["sale_id"].to_pylist(), found["sold_date"].to_pylist(), strict=True))

    def rows_of(self, tenant_id: str, day: date, sale_ids: Collection[str]) -> pa.Table:
        """Return the rows of these sales of a tenant's day. Raises TableUnavailable, SchemaDrift."""
        if not sale_ids:
            return HISTORY_SCHEMA.empty_table()
        where, columns = day_of(tenant_id, day, sale_ids), tuple(HISTORY_SCHEMA.names)
        return self._attempts.until_done(lambda: _read(self._load(), where, columns))[1]


@dataclass(slots=True)
class _Writing:
    """One batch on its way into the table, over all its attempts."""

    rows: pa.Table
    properties: Mapping[str, str]
    index: HistoryIndex
    witness: CommitWitness = field(default_factory=CommitWitness)
    new: pa.Table = field(init=False)
    conflicts: dict[SaleIdentity, str] = field(default_factory=dict)

    def attempt(self, table: Table) -> None:
        """Put what is missing on top of the table's present state."""
        if self.witness.landed(table.metadata):
            return
        held = _held(table, self.index.may_hold(table, self.rows))
        self.new, older = self._judged(held)
        if not self.new.num_rows:
            return
        from salesintel_dagster.adapters.file_exchange import FileExchange  # noqa: PLC0415 - imports pyiceberg
        from salesintel_dagster.adapters.table_transaction import OneCopyTransaction  # noqa: PLC0415 - same

        files = [file for part in _by_day(self.new) for file in _written(table, part)]
        replaced = _without(table, older) if older.num_rows else ([], [])
        self.witness.watch(table)
        with OneCopyTransaction(table) as transaction:
            exchange = (replaced[0], [*files, *replaced[1]])
            FileExchange(transaction, self.properties, of_sales(self.new), exchange).commit()

    def _judged(self, held: Mapping[SaleIdentity, RowTold]) -> tuple[pa.Table, pa.Table]:
        """Return the rows to write, and those of them that take another's place."""
        self.conflicts = {}
        new, older = [], []
        for identity, told in _told(self.rows):
            there = held.get(identity)
            place = told.place(there)
            if there is not None and place is Place.CONFLICT:
                self.conflicts[identity] = there.payload_hash
            new.append(place in (Place.FREE, Place.TAKES))
            older.append(place is Place.TAKES)
        return self.rows.filter(pa.array(new, pa.bool_())), self.rows.filter(pa.array(older, pa.bool_()))

    def commit(self, tries: int, seconds: float) -> KeyedCommit:
        """Return what became of the batch."""
        return KeyedCommit(
            snapshot_id=self.witness.last_snapshot_id,
            written=self.new.num_rows,
            held=self.rows.num_rows - self.new.num_rows - len(self.conflicts),
            conflicts=dict(self.conflicts),
            months=months_of(self.new),
            attempts=tries,
            seconds=seconds,
        )


def months_of(rows: pa.Table) -> tuple[TableMonth, ...]:
    """Return the partitions that the rows lie in, in order."""
    found = rows.group_by(["tenant_id", "year", "month"]).aggregate([]).to_pylist()
    return tuple(sorted(TableMonth(one["tenant_id"], one["year"], one["month"]) for one in found))


def _told(rows: pa.Table | pa.RecordBatch) -> Iterator[tuple[SaleIdentity, RowTold]]:
    columns = (rows.column(name).to_pylist() for name in _TOLD)
    for tenant, sale, *told in zip(*columns, strict=True):
        yield SaleIdentity(tenant, sale), RowTold(*told)


def _held(table: Table, rows: pa.Table) -> dict[SaleIdentity, RowTold]:
    """Return what the table holds of the rows' sales. Raises DuplicateKeys where it holds one twice."""
    held: dict[SaleIdentity, RowTold] = {}
    if not rows.num_rows:
        return held
    for batch in scan(table, of_sales(rows), _TOLD, HISTORY_SCHEMA):
        for identity, told in _told(batch):
            if identity in held:
                raise DuplicateKeys(f"the table holds sale {identity.sale_id!r} of {identity.tenant_id} twice")
            held[identity] = told
    return held


def _read(table: Table, where: BooleanExpression, columns: tuple[str, ...]) -> pa.Table:
    batches = scan(table, where, columns, HISTORY_SCHEMA)
    return pa.Table.from_batches(batches, pa.schema([HISTORY_SCHEMA.field(name) for name in columns]))


def _by_day(rows: pa.Table) -> Iterator[pa.Table]:
    for day in pc.unique(rows["sold_date"]):
        yield rows.filter(pc.equal(rows["sold_date"], day))


def _written(table: Table, rows: pa.Table) -> list[DataFile]:
    """Write rows of one day into data files, one a tenant. Raises RowsRefused for what they hold."""
    from pyiceberg.io.pyarrow import _dataframe_to_data_files  # noqa: PLC0415 - pyiceberg costs 1 CPU second

    try:
        return list(_dataframe_to_data_files(table.metadata, rows.cast(table.schema().as_arrow()), table.io))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise RowsRefused(f"{rows.num_rows} rows cannot be written: {type(error).__name__}: {error}") from error


def _without(table: Table, older: pa.Table) -> tuple[list[DataFile], list[DataFile]]:
    """Return the files that hold what the rows take the place of, and what is to stand for them without it."""
    from salesintel_dagster.adapters.table_facts import rows_of  # noqa: PLC0415 - imports pyiceberg

    leaving = {identity for identity, _ in _told(older)}
    gone: list[DataFile] = []
    kept: list[DataFile] = []
    for task in table.scan(row_filter=of_sales(older)).plan_files():
        rows = pa.Table.from_batches(rows_of(table, [task]))
        rest = rows.filter(pa.array([identity not in leaving for identity, _ in _told(rows)], pa.bool_()))
        if rest.num_rows < rows.num_rows:
            gone.append(task.file)
            kept += _written(table, rest) if rest.num_rows else []
    return gone, kept
