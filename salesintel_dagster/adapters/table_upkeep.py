"""Upkeep of an Iceberg table behind the TableKeeper port: compaction, expiry, removal of unreferenced files.

Every commit starts from the table's present state, loses to any writer of the same rows, and is then planned anew.
On storage that AWS keeps itself (S3 Tables) snapshots are expired and files removed by AWS, and not here. What to
touch is decided in `domain.upkeep`, from facts that `table_facts` and `table_files` read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from salesintel_dagster.adapters.commit_attempts import CommitAttempts
from salesintel_dagster.adapters.commit_witness import CommitWitness
from salesintel_dagster.adapters.table_layout import NAMESPACE, kept_by_aws
from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import CommitConflict, UpkeepRefused
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.table_keeper import TableKeeper
from salesintel_dagster.domain.upkeep import (
    LEFT_TO_AWS,
    Step,
    StepDone,
    Survey,
    UpkeepRules,
    files_to_compact,
    files_to_remove,
    manifests_to_regroup,
    snapshots_to_expire,
)

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from salesintel_dagster.adapters.table_rewrites import Plan

LAST_UPKEEP = "salesintel.last-upkeep"
UPKEEP_RETRY = RetryPolicy(retries=5, base_seconds=0.5, deadline_seconds=300.0)
MOST_COMMITS = 50
"""Commits of compaction in one upkeep, up to 5 million rows: a greater backlog goes on tomorrow."""
NEVER_MADE = "the table was never made"
NOTHING = StepDone(Step.COMPACT)


class IcebergTableKeeper(TableKeeper):
    """Keeps the table `name`; `managed` says that its storage expires and removes by itself (S3 Tables)."""

    def __init__(
        self,
        connect: Callable[[], Catalog],
        clock: Clock,
        name: str,
        *,
        managed: bool = False,
        retry: RetryPolicy = UPKEEP_RETRY,
    ) -> None:
        self._connect = connect
        self._name = name
        self._managed = managed
        self._attempts = CommitAttempts(clock, retry)
        self._opened: Catalog | None = None
        self._named: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The table's name, without its namespace."""
        return self._name

    def survey(self, rules: UpkeepRules, now: datetime) -> Survey | None:
        """Tell how the table stands and what upkeep would do. Raises TableUnavailable."""
        return self._attempts.until_done(lambda: self._survey(rules, now))[1]

    def compact(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Rewrite small files, then manifests, commit by commit. Raises CommitConflict, TableUnavailable."""
        from salesintel_dagster.adapters.table_rewrites import compaction, regrouping  # noqa: PLC0415 - pyiceberg

        done = [self._commit(lambda table: compaction(table, rules))]
        while done[-1].items and len(done) < MOST_COMMITS:
            done.append(self._commit(lambda table: compaction(table, rules)))
        done.append(self._commit(lambda table: regrouping(table, rules, now)))
        items, sizes = sum(one.items for one in done), sum(one.bytes for one in done)
        return StepDone(Step.COMPACT, items, sizes, max(one.attempts for one in done))

    def expire(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Forget old snapshots in one commit. Raises CommitConflict, TableUnavailable."""
        tries, done = self._attempts.until_done(lambda: self._expire(rules, now))
        return replace(done, attempts=tries)

    def remove(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Delete old unreferenced files. Raises TableUnavailable, UpkeepRefused."""
        tries, done = self._attempts.until_done(lambda: self._remove(rules, now))
        return replace(done, attempts=tries)

    def _catalog(self) -> Catalog:
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
        return self._opened

    def _load(self) -> Table | None:
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415 - pyiceberg costs 1 CPU second to import

        try:
            return self._catalog().load_table((NAMESPACE, self._name))
        except NoSuchTableError:
            return None

    def _left_to_aws(self, table: Table) -> bool:
        return self._managed or kept_by_aws(table.location())

    def _survey(self, rules: UpkeepRules, now: datetime) -> Survey | None:
        from salesintel_dagster.adapters import table_facts, table_files  # noqa: PLC0415 - import pyiceberg

        table = self._load()
        if table is None:
            return None
        managed = self._left_to_aws(table)
        live = table_facts.LiveFiles(table)
        snapshot = table.current_snapshot()
        manifests = table_facts.manifest_facts(table, snapshot.manifests(table.io) if snapshot else ())
        snapshots = table_facts.snapshot_facts(table)
        found, refused = None, ""
        try:
            found = None if managed else table_files.TableFiles(self._catalog(), table, self._named)
        except UpkeepRefused as error:
            refused = str(error)
        last = table.properties.get(LAST_UPKEEP)
        return Survey(
            name=self._name,
            rows=sum(file.rows for file in live.facts),
            data_files=len(live.facts),
            data_bytes=sum(file.bytes for file in live.facts),
            manifests=len(manifests),
            snapshots=snapshots,
            last_upkeep=datetime.fromisoformat(last) if last else None,
            managed=managed,
            stored_files=len(found.stored) if found else 0,
            stored_bytes=sum(file.bytes for file in found.stored) if found else 0,
            to_compact=files_to_compact(live.facts, rules),
            to_regroup=manifests_to_regroup(manifests, now.date(), rules),
            to_expire=() if managed else snapshots_to_expire(snapshots, now, rules),
            to_remove=files_to_remove(found.stored, found.referenced, now, rules) if found else (),
            refused=refused,
        )

    def _commit(self, plan: Callable[[Table], Plan | None]) -> StepDone:
        """Commit what `plan` makes of the table's present state, planned anew after each conflict."""
        witness = CommitWitness()
        done = NOTHING

        def attempt() -> StepDone:
            from salesintel_dagster.adapters.table_transaction import OneCopyTransaction  # noqa: PLC0415 - pyiceberg

            nonlocal done
            table = self._load()
            if table is None or witness.landed(table.metadata):
                return done
            planned = plan(table)
            if planned is None:
                return NOTHING
            done, rewrite = planned
            witness.watch(table)
            with OneCopyTransaction(table) as transaction:
                rewrite(transaction).commit()
            return done

        tries, result = self._attempts.until_done(attempt)
        return replace(result, attempts=tries)

    def _expire(self, rules: UpkeepRules, now: datetime) -> StepDone:
        from pyiceberg.table.update import (  # noqa: PLC0415 - pyiceberg
            AssertRefSnapshotId,
            RemoveSnapshotsUpdate,
            SetPropertiesUpdate,
        )

        from salesintel_dagster.adapters.table_facts import snapshot_facts  # noqa: PLC0415 - pyiceberg
        from salesintel_dagster.adapters.table_transaction import OneCopyTransaction  # noqa: PLC0415 - same

        table = self._load()
        if table is None:
            return StepDone(Step.EXPIRE, skipped=NEVER_MADE)
        managed = self._left_to_aws(table)
        ids = () if managed else snapshots_to_expire(snapshot_facts(table), now, rules)
        noted = SetPropertiesUpdate(updates={LAST_UPKEEP: now.isoformat(timespec="seconds")})
        heads = {"main": None, **{name: ref.snapshot_id for name, ref in table.metadata.refs.items()}}
        # Removing a snapshot that became a branch's head meanwhile would remove the branch: the heads must stand.
        unmoved = tuple(
            AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": head}) for name, head in heads.items()
        )
        forgotten = (RemoveSnapshotsUpdate.model_validate({"snapshot-ids": ids}),) if ids else ()
        try:
            with OneCopyTransaction(table) as transaction:
                transaction.stage((*forgotten, noted), unmoved)
        except ValueError as error:
            raise CommitConflict(f"another upkeep expired the same snapshots: {error}"[:200]) from error
        return StepDone(Step.EXPIRE, len(ids), skipped=LEFT_TO_AWS if managed else "")

    def _remove(self, rules: UpkeepRules, now: datetime) -> StepDone:
        from salesintel_dagster.adapters.table_files import TableFiles  # noqa: PLC0415 - pyiceberg

        table = self._load()
        if table is None or self._left_to_aws(table):
            return StepDone(Step.REMOVE, skipped=LEFT_TO_AWS if table else NEVER_MADE)
        files = TableFiles(self._catalog(), table, self._named)
        chosen = files_to_remove(files.stored, files.referenced, now, rules)
        return StepDone(Step.REMOVE, files.remove(chosen), sum(file.bytes for file in chosen))
