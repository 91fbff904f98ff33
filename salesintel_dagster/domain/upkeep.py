"""Which snapshots, files and manifests of an Iceberg table upkeep may touch: pure planning over what a table told.

Nothing here reads or writes. Every rule keeps on the safe side: what is not known to be safe is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from salesintel_dagster.domain.errors import SettingInvalid

MANIFEST_BYTES = 2 * 1024 * 1024
"""Manifests are not merged beyond this: whoever replaces a day reads every entry of the manifest that has it."""


LEFT_TO_AWS = "S3 Tables expires snapshots and removes unreferenced files itself, by the table bucket's settings"
FULL_FILE_ROWS = 2_000
"""A data file of so many rows is not made any larger: one chunk of a day's write, 8 MB of vectors. Most days are less.
Measured, 10,000 rows: the write peaks at 433 MB with chunks of 5,000, 350 with 2,500, 328 with 2,000, 326 with 1,000.
"""
ROWS_A_COMMIT = 100_000
"""Rows that one commit of compaction writes anew: 400 MB of vectors, a few seconds."""


@dataclass(frozen=True, slots=True)
class UpkeepRules:
    """How much history a table keeps, and what counts as small. Raises SettingInvalid below the safe minimum."""

    keep_snapshots: int = 20
    """Newest snapshots kept whatever their age."""
    keep_days: int = 5
    """A snapshot stays this long after another took its place: so long can a reader go on, or look back."""
    unreferenced_days: int = 3
    """Age at which a file that no snapshot knows is taken for left behind; a writer commits within hours."""
    full_file_rows: int = FULL_FILE_ROWS
    """A data file of so many rows is not made any larger; fewer are gathered with the others of their day."""
    open_month_manifests: int = 10
    """Manifests that the present month may gather before they become one; a month that is over keeps one."""

    def __post_init__(self) -> None:
        """Refuse what would take files from under a reader or a writer."""
        for name in ("keep_snapshots", "keep_days", "unreferenced_days", "full_file_rows"):
            if getattr(self, name) < 1:
                raise SettingInvalid(f"{name}: {getattr(self, name)} is less than 1")
        if self.open_month_manifests <= 1:
            raise SettingInvalid(f"open_month_manifests: {self.open_month_manifests} is less than 2")


class Step(StrEnum):
    """What upkeep does, in the order in which it does it."""

    COMPACT = "compact"
    EXPIRE = "expire"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step over one table: `items` compacted files and manifests, expired snapshots or removed files.

    `skipped` says why a step was not for this table; `failed` is a step's error, the table being as it was.
    """

    step: Step
    items: int = 0
    bytes: int = 0
    attempts: int = 1
    skipped: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotFact:
    """A snapshot; `named` is true where a branch or a tag points at it."""

    snapshot_id: int
    parent_id: int | None
    written_at: datetime
    named: bool


@dataclass(frozen=True, slots=True)
class Place:
    """What every row of a data file has in common: a file never mixes two places, and compaction keeps that."""

    partition: tuple[object, ...]
    day: date | None
    source: str | None


@dataclass(frozen=True, slots=True)
class FileFact:
    """A live data file; `place` is None where its rows are of several days or sources, or nothing says of which."""

    path: str
    rows: int
    bytes: int
    place: Place | None


@dataclass(frozen=True, slots=True)
class ManifestFact:
    """A live manifest; `year` and `month` where all its files are of one, else None."""

    path: str
    bytes: int
    year: int | None
    month: int | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the table's location, whoever wrote it; `modified_at` is the storage's own time."""

    path: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Survey:
    """A table as it stands, and what upkeep would do to it now.

    `managed`: the storage expires and removes by itself; `refused`: why no file may be removed, empty where it may.
    """

    name: str
    rows: int
    data_files: int
    data_bytes: int
    manifests: int
    snapshots: tuple[SnapshotFact, ...]
    last_upkeep: datetime | None
    managed: bool
    stored_files: int
    stored_bytes: int
    to_compact: tuple[tuple[FileFact, ...], ...]
    to_regroup: tuple[tuple[ManifestFact, ...], ...]
    to_expire: tuple[int, ...]
    to_remove: tuple[StoredFile, ...]
    refused: str = ""

    def rehearsal(self) -> tuple[StepDone, ...]:
        """Return what the three steps would do, had they been run at the time of the survey."""
        sizes = [file.bytes for group in self.to_compact for file in group]
        sizes += [manifest.bytes for group in self.to_regroup for manifest in group]
        left = LEFT_TO_AWS if self.managed else ""
        return (
            StepDone(Step.COMPACT, len(sizes), sum(sizes)),
            StepDone(Step.EXPIRE, len(self.to_expire), skipped=left),
            StepDone(
                Step.REMOVE,
                len(self.to_remove),
                sum(file.bytes for file in self.to_remove),
                skipped=left,
                failed=self.refused,
            ),
        )


def snapshots_to_expire(snapshots: Sequence[SnapshotFact], now: datetime, rules: UpkeepRules) -> tuple[int, ...]:
    """Return ids, oldest first: of no branch or tag, not among the newest, and out of use for `keep_days`.

    Age counts from when the next snapshot took its place, so that a reader who began on it has that long to end.
    """
    replaced_at = {one.snapshot_id: one.written_at for one in snapshots}
    for one in snapshots:
        if one.parent_id in replaced_at:
            replaced_at[one.parent_id] = max(replaced_at[one.parent_id], one.written_at)
    oldest_first = sorted(snapshots, key=lambda one: one.written_at)
    limit = now - timedelta(days=rules.keep_days)
    return tuple(
        one.snapshot_id
        for one in oldest_first[: -rules.keep_snapshots]
        if not one.named and replaced_at[one.snapshot_id] < limit
    )


def files_to_compact(files: Iterable[FileFact], rules: UpkeepRules) -> tuple[tuple[FileFact, ...], ...]:
    """Return groups of small files of one place each, where writing them anew at least halves their number."""
    small: defaultdict[Place, list[FileFact]] = defaultdict(list)
    for file in files:
        if file.place is not None and file.rows < rules.full_file_rows:
            small[file.place].append(file)
    return tuple(
        tuple(group)
        for _, group in sorted(small.items(), key=lambda found: repr(found[0]))
        if 2 * -(-sum(file.rows for file in group) // rules.full_file_rows) <= len(group)
    )


def one_commit(groups: Sequence[tuple[FileFact, ...]]) -> tuple[tuple[FileFact, ...], ...]:
    """Return the first groups of one partition that a single commit rewrites: a lost race loses no more than that."""
    chosen: list[tuple[FileFact, ...]] = []
    rows = 0
    for group in groups:
        rows += sum(file.rows for file in group)
        if chosen and (rows > ROWS_A_COMMIT or _partition(group) != _partition(chosen[0])):
            break
        chosen.append(group)
    return tuple(chosen)


def _partition(group: Sequence[FileFact]) -> tuple[object, ...]:
    place = group[0].place
    return place.partition if place else ()


def manifests_to_regroup(
    manifests: Iterable[ManifestFact], today: date, rules: UpkeepRules
) -> tuple[tuple[ManifestFact, ...], ...]:
    """Return groups of manifests to be written as one: of a month, and of a year that ended a year ago or earlier.

    Without it ten years of days are 3,650 manifests, which each commit lists again; with it they are about 30.
    """
    by_period: defaultdict[tuple[int, int], list[ManifestFact]] = defaultdict(list)
    for manifest in manifests:
        if manifest.year is not None and manifest.year < today.year - 1:
            by_period[manifest.year, 0].append(manifest)
        elif manifest.year is not None and manifest.month is not None:
            by_period[manifest.year, manifest.month].append(manifest)
    groups: list[tuple[ManifestFact, ...]] = []
    for period, found in by_period.items():
        least = 2 if period < (today.year, today.month) else rules.open_month_manifests
        groups += [tuple(packed) for packed in _packed(found) if len(packed) >= least]
    return tuple(groups)


def _packed(manifests: Iterable[ManifestFact]) -> list[list[ManifestFact]]:
    packs: list[list[ManifestFact]] = []
    room = 0
    for manifest in sorted(manifests, key=lambda one: one.bytes):
        if manifest.bytes > room:
            packs.append([])
            room = MANIFEST_BYTES
        packs[-1].append(manifest)
        room -= manifest.bytes
    return packs


def files_to_remove(
    stored: Iterable[StoredFile], referenced: Collection[str], now: datetime, rules: UpkeepRules
) -> tuple[StoredFile, ...]:
    """Return the stored files that no retained metadata refers to and that are older than any writer's run."""
    limit = now - timedelta(days=rules.unreferenced_days)
    return tuple(file for file in stored if file.path not in referenced and file.modified_at < limit)
