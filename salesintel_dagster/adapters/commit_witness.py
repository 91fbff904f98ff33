"""What became of an Iceberg commit whose answer was lost or untrue.

pyiceberg 0.12 takes a CommitFailedException to mean that nothing landed and deletes the manifests it wrote. Catalogs
raise it also after a retried request whose first answer was lost (Glue through botocore, REST through urllib3): the
commit had landed, and its manifests are then gone from under the table (seen: a first day so written could be read by
nobody). So the witness stands between transaction
and catalog, and looks into the table before it lets a failure through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import CommitTableResponse, Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.update import TableRequirement, TableUpdate


class CommitWitness:
    """Remembers the snapshot ids of every attempt: they are random, stable over pyiceberg's own retries, and ours."""

    def __init__(self) -> None:
        self._attempts: list[tuple[int, ...]] = []
        self._landed: tuple[int, ...] = ()

    @property
    def last_snapshot_id(self) -> int | None:
        """The head that our commit made."""
        return self._landed[-1] if self._landed else None

    def watch(self, table: Table) -> None:
        """Stand between this table object and its catalog."""
        table.catalog = _Watched(table.catalog, self)  # type: ignore[assignment]  # delegates all but commit_table

    def expect(self, snapshot_ids: tuple[int, ...]) -> None:
        """Remember what a commit is about to add."""
        self._attempts.append(snapshot_ids)

    def landed(self, metadata: TableMetadata) -> bool:
        """Tell whether any attempt is in the table, and remember which."""
        known = {snapshot.snapshot_id for snapshot in metadata.snapshots}
        for ids in self._attempts:
            if ids and known.issuperset(ids):
                self._landed = ids
        return bool(self._landed)

    def summaries(self, metadata: TableMetadata) -> tuple[Mapping[str, str], ...]:
        """Return the summaries of the snapshots that our commit made, oldest first."""
        found = (metadata.snapshot_by_id(snapshot_id) for snapshot_id in self._landed)
        return tuple(
            snapshot.summary.additional_properties for snapshot in found if snapshot is not None and snapshot.summary
        )


def committed_property(metadata: TableMetadata, which: Mapping[str, str], name: str) -> str | None:
    """Return property `name` of the newest snapshot, from the current one back, that carries all of `which`."""
    snapshot = metadata.current_snapshot()
    while snapshot is not None:
        told = snapshot.summary.additional_properties if snapshot.summary else {}
        if which.items() <= told.items():
            return told.get(name)
        parent = snapshot.parent_snapshot_id
        snapshot = metadata.snapshot_by_id(parent) if parent is not None else None
    return None


class _Watched:
    """A catalog whose commit_table tells the truth about a commit that landed."""

    def __init__(self, catalog: Catalog, witness: CommitWitness) -> None:
        self._catalog = catalog
        self._witness = witness

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the catalog has
        return getattr(self._catalog, name)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit, and where that fails, look whether it landed all the same.

        Raises the catalog's error where it did not, CommitStateUnknownException (after which pyiceberg deletes
        nothing) where the table cannot be asked.
        """
        from pyiceberg.table import CommitTableResponse  # noqa: PLC0415 - pyiceberg costs 1 CPU second
        from pyiceberg.table.update import AddSnapshotUpdate  # noqa: PLC0415 - same

        added = tuple(update.snapshot.snapshot_id for update in updates if isinstance(update, AddSnapshotUpdate))
        self._witness.expect(added)
        try:
            response = self._catalog.commit_table(table, requirements, updates)
        except Exception as error:
            now = self._reloaded(table, error)
            if not self._witness.landed(now.metadata):
                raise
            return CommitTableResponse.model_validate(
                {"metadata": now.metadata, "metadata-location": now.metadata_location}
            )
        self._witness.landed(response.metadata)
        return response

    def _reloaded(self, table: Table, error: Exception) -> Table:
        from pyiceberg.exceptions import CommitStateUnknownException  # noqa: PLC0415 - see commit_table

        try:
            return self._catalog.load_table(table.name())
        except Exception:  # noqa: BLE001 - any failure here leaves the outcome unknown
            raise CommitStateUnknownException("a commit's answer was lost and the table cannot be asked") from error
