"""The upkeep of a table that is only told about: it answers as scripted and notes what it was asked to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from salesintel_dagster.domain.errors import TableError
from salesintel_dagster.domain.table_keeper import TableKeeper
from salesintel_dagster.domain.upkeep import SnapshotFact, Step, StepDone, StoredFile, Survey, UpkeepRules

AT = datetime(2026, 11, 20, 5, tzinfo=UTC)
LEFT = StoredFile("lake/smartgo_sales/data/left.parquet", 2_500_000, AT - timedelta(days=9))


class ScriptedTableKeeper(TableKeeper):
    """`acts` lists the steps that were done; `failing` maps a step, or "survey", to the error it raises."""

    def __init__(
        self,
        name: str = "smartgo_sales",
        *,
        made: bool = True,
        managed: bool = False,
        failing: dict[str, TableError] | None = None,
    ) -> None:
        self.acts: list[Step] = []
        self._name = name
        self._made = made
        self._managed = managed
        self._failing = failing or {}

    @property
    def name(self) -> str:
        return self._name

    def survey(self, rules: UpkeepRules, now: datetime) -> Survey | None:  # noqa: ARG002 - the port's
        if "survey" in self._failing:
            raise self._failing["survey"]
        snapshots = (SnapshotFact(1, None, AT, named=True), SnapshotFact(2, None, AT - timedelta(days=3), named=False))
        survey = Survey(
            name=self._name,
            rows=1234567,
            data_files=31,
            data_bytes=4_200_000_000,
            manifests=2,
            snapshots=snapshots,
            last_upkeep=AT if Step.EXPIRE in self.acts else None,
            managed=self._managed,
            stored_files=40,
            stored_bytes=4_300_000_000,
            to_compact=(),
            to_regroup=(),
            to_expire=() if self._managed or self.acts else (2,),
            to_remove=() if self._managed or self.acts else (LEFT,),
        )
        return survey if self._made else None

    def compact(self, rules: UpkeepRules, now: datetime) -> StepDone:  # noqa: ARG002 - the port's
        return self._done(StepDone(Step.COMPACT, 3, 900))

    def expire(self, rules: UpkeepRules, now: datetime) -> StepDone:  # noqa: ARG002 - the port's
        return self._done(StepDone(Step.EXPIRE, 1))

    def remove(self, rules: UpkeepRules, now: datetime) -> StepDone:  # noqa: ARG002 - the port's
        return self._done(StepDone(Step.REMOVE, 1, LEFT.bytes))

    def _done(self, done: StepDone) -> StepDone:
        self.acts.append(done.step)
        if done.step.value in self._failing:
            raise self._failing[done.step.value]
        return done
