"""The one snapshot that puts data files in and takes others out, as a compare-and-set. Imports pyiceberg: lazily.

pyiceberg's own `overwrite` reads every data file that might hold a row of the filter, vectors and all, before it
finds that none does; here the caller has looked already, in the columns that tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _OverwriteFiles

from salesintel_dagster.adapters.table_transaction import OneCopyTransaction


class FileExchange(_OverwriteFiles):
    """Puts new data files in the place of old ones.

    Refused (ValidationException) where one of the old files is gone, or where another writer has added or deleted
    rows of `where` since the transaction's table was loaded.
    """

    def __init__(
        self,
        transaction: OneCopyTransaction,
        properties: Mapping[str, str],
        where: BooleanExpression,
        files: tuple[Iterable[DataFile], Iterable[DataFile]],
    ) -> None:
        super().__init__(Operation.OVERWRITE, transaction, transaction.io, snapshot_properties=dict(properties))
        self.delete_by_predicate(where)
        old, new = files
        for file in old:
            self.delete_data_file(file)
        for file in new:
            self.append_data_file(file)

    def _existing_manifests(self) -> list[ManifestFile]:
        """Carry on the head's manifests; only where files go are they read."""
        if self._deleted_data_files:
            return super()._existing_manifests()
        head = self._transaction.table_metadata.snapshot_by_name(self._target_branch)
        return [] if head is None else head.manifests(self._io)

    def _deleted_entries(self) -> list[ManifestEntry]:
        return super()._deleted_entries() if self._deleted_data_files else []
