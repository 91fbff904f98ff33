"""An Iceberg table's snapshots, data files and manifests as the plain facts that `domain.upkeep` plans with.

Also the way back: the rows of planned files read again, and the condition under which nobody else may have touched
them. Imports pyiceberg: import it lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, In, IsNull
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType, PrimitiveType

from salesintel_dagster.domain.upkeep import FileFact, ManifestFact, Place, SnapshotFact

DAY, SOURCE = "sold_date", "source_system"


def snapshot_facts(table: Table) -> tuple[SnapshotFact, ...]:
    """Return every snapshot of the table."""
    named = {ref.snapshot_id for ref in table.metadata.refs.values()}
    return tuple(
        SnapshotFact(
            one.snapshot_id,
            one.parent_snapshot_id,
            datetime.fromtimestamp(one.timestamp_ms / 1000, UTC),
            one.snapshot_id in named,
        )
        for one in table.metadata.snapshots
    )


class LiveFiles:
    """The data files of the table's present snapshot: `facts` for planning, and each file by its path."""

    def __init__(self, table: Table) -> None:
        self._table = table
        names = set(table.schema().column_names)
        # A table that knows neither days nor sources (product_enrichment) has partitions alone.
        self._by_day = {DAY, SOURCE} <= names
        self._told_apart = (self._by_day or not {DAY, SOURCE} & names) and all(
            isinstance(field.transform, IdentityTransform) for field in table.spec().fields
        )
        self._tasks = {task.file.file_path: task for task in table.scan().plan_files()}
        self.facts = tuple(self._fact(task) for task in self._tasks.values())

    def files(self, facts: Iterable[FileFact]) -> list[DataFile]:
        """Return the data files of these facts."""
        return [self._tasks[fact.path].file for fact in facts]

    def rows(self, facts: Iterable[FileFact]) -> Iterator[pa.RecordBatch]:
        """Stream all rows of these files, one file in memory at a time."""
        return rows_of(self._table, (self._tasks[fact.path] for fact in facts))

    def _fact(self, task: FileScanTask) -> FileFact:
        file = task.file
        ours = self._told_apart and file.spec_id == self._table.metadata.default_spec_id and not task.delete_files
        return FileFact(file.file_path, file.record_count, file.file_size_in_bytes, self._place(file) if ours else None)

    def _place(self, file: DataFile) -> Place | None:
        """Return what all rows of the file share; None where a column that should be shared is not."""
        partition = tuple(file.partition[position] for position in range(len(self._table.spec().fields)))
        if not self._by_day:
            return Place(partition, None, None)
        shared: list[object] = []
        for name in (DAY, SOURCE):
            low, high = self._bounds(file, name)
            if low is None or low != high:
                return None
            shared.append(low)
        day, source = shared
        if isinstance(day, int):
            day = date(1970, 1, 1) + timedelta(days=day)
        return Place(partition, day, str(source)) if isinstance(day, date) else None

    def _bounds(self, file: DataFile, name: str) -> tuple[object, object]:
        """Return the least and greatest value; (None, None) where one is unknown or some row has none."""
        field = self._table.schema().find_field(name)
        low, high = (bounds.get(field.field_id) for bounds in (file.lower_bounds, file.upper_bounds))
        if low is None or high is None or (file.null_value_counts or {}).get(field.field_id) != 0:
            return None, None
        return _value(field.field_type, low), _value(field.field_type, high)


def rows_of(table: Table, tasks: Iterable[FileScanTask]) -> Iterator[pa.RecordBatch]:
    """Stream all rows of planned files, one file in memory at a time, columns found by field id."""
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    # A file keeps the Arrow types of its writer: string here, large_string there.
    target = table.schema().as_arrow()
    for task in tasks:
        for batch in scan.to_record_batches([task]):
            yield batch.cast(target)


def within(table: Table, places: Sequence[Place]) -> BooleanExpression:
    """Return the rows of these places, all of one partition, as expression objects: values are never parsed."""
    equal: Callable[[str, object], BooleanExpression] = EqualTo  # type: ignore[assignment]  # pydantic's signature
    among: Callable[[str, object], BooleanExpression] = In  # type: ignore[assignment]  # hides the real ones
    absent: Callable[[str], BooleanExpression] = IsNull  # type: ignore[assignment]
    schema = table.schema()
    names = [schema.find_column_name(field.source_id) or "" for field in table.spec().fields]
    values = zip(names, places[0].partition, strict=True)
    meant = [absent(name) if value is None else equal(name, value) for name, value in values]
    if places[0].day is not None:
        meant += [among(DAY, {place.day for place in places}), among(SOURCE, {place.source for place in places})]
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, meant, everything)


def manifest_facts(table: Table, manifests: Iterable[ManifestFile]) -> tuple[ManifestFact, ...]:
    """Return the manifests that have live data files, of the present way of partitioning."""
    positions = {field.name: position for position, field in enumerate(table.spec().fields)}

    def only(manifest: ManifestFile, name: str) -> int | None:
        """Return the one value that a partition column has in all files of the manifest."""
        if name not in positions or not manifest.partitions:
            return None
        summary = manifest.partitions[positions[name]]
        if summary.lower_bound is None or summary.lower_bound != summary.upper_bound or summary.contains_null:
            return None
        value = _value(table.schema().find_field(name).field_type, summary.lower_bound)
        return value if isinstance(value, int) else None

    return tuple(
        ManifestFact(one.manifest_path, one.manifest_length, only(one, "year"), only(one, "month"))
        for one in manifests
        if one.content == ManifestContent.DATA
        and one.partition_spec_id == table.metadata.default_spec_id
        and (one.has_added_files() or one.has_existing_files())
    )


def _value(kind: IcebergType, bound: bytes) -> object:
    return from_bytes(kind, bound) if isinstance(kind, PrimitiveType) else None
