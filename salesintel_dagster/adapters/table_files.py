"""Which files lie in an Iceberg table's location, and which of them its retained metadata refers to.

Paths are the file system's own (`bucket/key`, or absolute), so that `file:`, `s3:` and `s3a:` forms of one place are
equal. Only names that Iceberg writers give are looked at. Imports pyiceberg: import it lazily.

Each live file must be known by name, lest it be removed, and each day has a file of its own, so that replacing it
spares the others: the work grows with the table's age. A manifest is read once an upkeep, not nine times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from itertools import chain
from typing import TypeVar

import pyarrow.fs as pafs
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from salesintel_dagster.domain.errors import UpkeepRefused
from salesintel_dagster.domain.upkeep import StoredFile

FOLDERS = ("data", "metadata")
METADATA_SUFFIX = ".metadata.json"
SUFFIXES = (".parquet", ".avro", METADATA_SUFFIX)
REQUESTS_AT_ONCE = 8

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class TableFiles:
    """One table's files, as they were when this was made; `stored` and `referenced` hold file system paths.

    The order is the safety: the metadata is read before the files are listed and once more after it. A file that a
    writer commits in between is known from the second reading, one that it has not committed is young. Raises
    UpkeepRefused where the files are not this table's alone, or references cannot be matched with what is listed.
    """

    def __init__(self, catalog: Catalog, table: Table, named: dict[str, list[str]] | None = None) -> None:
        """`named` keeps what the manifests name, by their paths, for the next one of the same table."""
        self._io = table.io
        self._named = {} if named is None else named
        self._seen: set[str] = set()
        filesystem, root = self._place(table.location())
        self._filesystem = filesystem
        before = self._live(table)
        self.stored = tuple(self._listed(root))
        listed = {file.path for file in self.stored}
        lost = sorted(before - listed)
        if lost:
            raise UpkeepRefused(
                f"{len(lost)} files of the present snapshot are not found in {table.location()}, the first is "
                f"{lost[0]}; while that is so, no file is removed"
            )
        self.referenced = before | self._retained(catalog.load_table(table.name()))
        for gone in self._named.keys() - self._seen:
            del self._named[gone]
        self._refuse_strangers(table)

    def remove(self, files: Iterable[StoredFile]) -> int:
        """Delete the files and return how many were there; one that is gone already is no error."""
        return sum(_parallel(self._removed, (file.path for file in files)))

    def _removed(self, path: str) -> bool:
        try:
            self._filesystem.delete_file(path)
        except FileNotFoundError:
            return False
        return True

    def _place(self, location: str) -> tuple[pafs.FileSystem, str]:
        if not isinstance(self._io, PyArrowFileIO):
            raise TypeError(f"expected a catalog opened by adapters.catalogs, found file access by {type(self._io)}")
        scheme, netloc, path = PyArrowFileIO.parse_location(location, self._io.properties)
        return self._io.fs_by_scheme(scheme, netloc), path.rstrip("/")

    def _path(self, location: str) -> str:
        return self._place(location)[1]

    def _listed(self, root: str) -> Iterator[StoredFile]:
        for folder in FOLDERS:
            selector = pafs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
            for found in self._filesystem.get_file_info(selector):
                if found.is_file and found.path.endswith(SUFFIXES):
                    yield StoredFile(found.path, found.size, found.mtime.astimezone(UTC))

    def _live(self, table: Table) -> set[str]:
        snapshot = table.current_snapshot()
        return self._of_snapshots([snapshot] if snapshot else [], missing_allowed=False)

    def _retained(self, table: Table) -> set[str]:
        """Return what the current metadata and every older version still kept refer to, and these versions."""
        paths = {self._path(table.metadata_location)}
        snapshots = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
        paths |= self._of_snapshots(snapshots.values(), missing_allowed=False)
        past: dict[int, Snapshot] = {}
        versions = [entry.metadata_file for entry in table.metadata.metadata_log]
        paths |= {self._path(version) for version in versions}
        for metadata in (table.metadata, *filter(None, _parallel(self._version, versions))):
            past |= {one.snapshot_id: one for one in metadata.snapshots if one.snapshot_id not in snapshots}
            statistics = (*metadata.statistics, *metadata.partition_statistics)
            paths |= {self._path(one.statistics_path) for one in statistics}
        return paths | self._of_snapshots(past.values(), missing_allowed=True)

    def _version(self, location: str) -> TableMetadata | None:
        try:
            return FromInputFile.table_metadata(self._io.new_input(location))
        except FileNotFoundError:
            # The next commit deletes the oldest version, and may do it now.
            return None

    def _of_snapshots(self, snapshots: Collection[Snapshot], *, missing_allowed: bool) -> set[str]:
        """Return manifest lists, manifests and live data files. What an expired snapshot needs may be gone."""
        manifests: dict[str, ManifestFile] = {}

        def read(open_: Callable[[], list[Item]]) -> list[Item]:
            try:
                return open_()
            except FileNotFoundError:
                if missing_allowed:
                    return []
                raise

        def files(manifest: ManifestFile) -> list[str]:
            if manifest.manifest_path not in self._named:  # written once and never changed
                entries = manifest.fetch_manifest_entry(self._io)
                self._named[manifest.manifest_path] = [entry.data_file.file_path for entry in entries]
            return self._named[manifest.manifest_path]

        for found in _parallel(lambda one: read(lambda: one.manifests(self._io)), snapshots):
            manifests |= {manifest.manifest_path: manifest for manifest in found}
        self._seen |= manifests.keys()
        data = _parallel(lambda one: read(lambda: files(one)), manifests.values())
        lists = [snapshot.manifest_list for snapshot in snapshots]
        return {self._path(location) for location in (*lists, *manifests, *chain.from_iterable(data))}

    def _refuse_strangers(self, table: Table) -> None:
        """Refuse a location where a table of another identity left its metadata: dropped by mistake, or moved."""
        for file in self.stored:
            if not file.path.endswith(METADATA_SUFFIX) or file.path in self.referenced:
                continue
            try:
                with self._filesystem.open_input_stream(file.path) as opened:
                    owner = json.loads(opened.read()).get("table-uuid")
            except (FileNotFoundError, ValueError):
                continue
            if owner != str(table.metadata.table_uuid):
                raise UpkeepRefused(
                    f"{table.location()} also holds files of another table ({owner} in {file.path}), perhaps dropped "
                    "by mistake; no file is removed before they are moved away or deleted by hand"
                )


def _parallel(act: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(act, items))
