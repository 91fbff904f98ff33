"""The pyiceberg transaction that every commit of ours goes through. Imports pyiceberg: import it lazily.

pyiceberg 0.12 copies the table's whole metadata, every snapshot in it, each time a transaction looks at it: 29 times
in one overwrite. Measured on 365 snapshots: 393 ms a commit, 149 ms with one copy per change.
"""

from __future__ import annotations

from typing import Self

from pyiceberg.io import FileIO
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate


class OneCopyTransaction(Transaction):
    """A transaction that works its metadata out once per change. Nobody may alter what it gives."""

    _known: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with all that is staged so far."""
        known = self._known
        if known is None or known[0] is not self._table.metadata or known[1] is not self._updates:
            # One assignment: the writers of manifests ask from several threads.
            known = self._known = (self._table.metadata, self._updates, super().table_metadata)
        return known[2]

    def __enter__(self) -> Self:
        """Commit at the end of the block, unless it raised."""
        return self

    @property
    def io(self) -> FileIO:
        """File access to the table's location."""
        return self._table.io

    def stage(self, updates: tuple[TableUpdate, ...], requirements: tuple[TableRequirement, ...]) -> None:
        """Put updates of the specification into the commit as they are."""
        self._stage(updates, requirements)
