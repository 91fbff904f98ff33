"""Two snapshots that change how a table's rows are stored and never the rows. Imports pyiceberg: import it lazily.

pyiceberg 0.12 has neither; both stand on its snapshot producers, so they are retried, validated and cleaned up as its
own are. Both say `replace`: no reader of changes takes them for news.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _SnapshotProducer
from pyiceberg.typedef import EMPTY_DICT

from salesintel_dagster.adapters.file_exchange import FileExchange
from salesintel_dagster.adapters.table_facts import LiveFiles, manifest_facts, within
from salesintel_dagster.adapters.table_transaction import OneCopyTransaction
from salesintel_dagster.domain.day_frame import chunked
from salesintel_dagster.domain.errors import UpkeepRefused
from salesintel_dagster.domain.upkeep import (
    FileFact,
    Step,
    StepDone,
    UpkeepRules,
    files_to_compact,
    manifests_to_regroup,
    one_commit,
)

PROPERTIES = {"salesintel.upkeep": "compact"}
"""In the summary of every snapshot that upkeep makes."""

Plan = tuple[StepDone, Callable[[OneCopyTransaction], "FilesRewritten | ManifestsRegrouped"]]
"""What a commit will have done, and the snapshot that does it."""

Group = Callable[[Sequence[ManifestFile]], Iterable[Sequence[ManifestFile]]]
"""Choose which of a snapshot's manifests become one."""


class FilesRewritten(FileExchange):
    """A file exchange in which the new files hold the same rows as the old ones."""

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        return _replacing(super()._summary(snapshot_properties))


class ManifestsRegrouped(_SnapshotProducer["ManifestsRegrouped"]):
    """Writes the same entries in fewer manifests, chosen anew from the newest snapshot at every attempt."""

    def __init__(self, transaction: OneCopyTransaction, properties: dict[str, str], group: Group) -> None:
        super().__init__(Operation.OVERWRITE, transaction, transaction.io, snapshot_properties=properties)
        self._group = group

    def _validate_concurrency(self) -> None:
        """Nothing can conflict: whatever the others wrote is what is regrouped."""

    def _deleted_entries(self) -> list[ManifestEntry]:
        return []

    def _existing_manifests(self) -> list[ManifestFile]:
        head = self._transaction.table_metadata.snapshot_by_name(self._target_branch)
        if head is None:
            return []
        # A manifest of nothing but deletions has told its snapshot's readers and is not carried on.
        live = [one for one in head.manifests(self._io) if one.has_added_files() or one.has_existing_files()]
        groups = [list(group) for group in self._group([one for one in live if one.content == ManifestContent.DATA])]
        merged = {manifest for group in groups for manifest in group}
        return [self._one(group) for group in groups] + [manifest for manifest in live if manifest not in merged]

    def _one(self, manifests: Sequence[ManifestFile]) -> ManifestFile:
        with self.new_manifest_writer(self.spec(manifests[0].partition_spec_id)) as writer:
            for manifest in manifests:
                for entry in self.fetch_manifest_entry(manifest):
                    if entry.status != ManifestEntryStatus.DELETED:
                        writer.existing(entry)
        return writer.to_manifest_file()

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        return _replacing(super()._summary(snapshot_properties))


def _replacing(summary: Summary) -> Summary:
    """Rename the operation: pyiceberg can add up totals of an overwrite, not of a replacement."""
    return Summary(Operation.REPLACE, **summary.additional_properties)


def compaction(table: Table, rules: UpkeepRules) -> Plan | None:
    """Write the next small files anew; None where there are none."""
    live = LiveFiles(table)
    groups = one_commit(files_to_compact(live.facts, rules))
    if not groups:
        return None
    old = [fact for group in groups for fact in group]
    new = [file for group in groups for file in _written(table, live, group, rules)]
    where = within(table, [group[0].place for group in groups if group[0].place])
    done = StepDone(Step.COMPACT, len(old), sum(fact.bytes for fact in old))
    return done, lambda transaction: FilesRewritten(transaction, PROPERTIES, where, (live.files(old), new))


def _written(table: Table, live: LiveFiles, group: Sequence[FileFact], rules: UpkeepRules) -> list[DataFile]:
    """Write one place's rows into full files. Raises UpkeepRefused unless these are as many rows in fewer files."""
    chunks = chunked(live.rows(group), rules.full_file_rows)
    new = [file for chunk in chunks for file in _dataframe_to_data_files(table.metadata, chunk, table.io)]
    before, after = sum(fact.rows for fact in group), sum(file.record_count for file in new)
    if after != before or len(new) >= len(group):
        raise UpkeepRefused(
            f"{len(group)} files of {before} rows would become {len(new)} files of {after} rows; nothing was changed"
        )
    return new


def regrouping(table: Table, rules: UpkeepRules, now: datetime) -> Plan | None:
    """Choose manifests of one month to become one; None where that is so already."""

    def chosen(manifests: Sequence[ManifestFile]) -> list[list[ManifestFile]]:
        by_path = {manifest.manifest_path: manifest for manifest in manifests}
        groups = manifests_to_regroup(manifest_facts(table, manifests), now.date(), rules)
        return [[by_path[fact.path] for fact in group] for group in groups]

    snapshot = table.current_snapshot()
    merged = [one for group in chosen(snapshot.manifests(table.io)) for one in group] if snapshot else []
    if not merged:
        return None
    done = StepDone(Step.COMPACT, len(merged), sum(manifest.manifest_length for manifest in merged))
    return done, lambda transaction: ManifestsRegrouped(transaction, PROPERTIES, chosen)
