"""The port of a table's upkeep: what `flows/upkeep.py` needs of an Iceberg table and of nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from salesintel_dagster.domain.upkeep import StepDone, Survey, UpkeepRules


class TableKeeper(ABC):
    """Upkeep of one Iceberg table beside its writers. Nothing here changes a row; only `remove` deletes files.

    Each method reads the table's present state, so that it can be called again after any failure or kill. All raise
    TableUnavailable; those that commit raise CommitConflict, the table being as it was.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The table's name, without its namespace; also the key of the asset that stands for it."""

    @abstractmethod
    def survey(self, rules: UpkeepRules, now: datetime) -> Survey | None:
        """Tell how the table stands and what the three steps would do; None where it was never made."""

    @abstractmethod
    def compact(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Write many small files of one place as few, then many manifests of one month as one."""

    @abstractmethod
    def expire(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Forget old snapshots and note the time of this upkeep in the table. Their files stay for `remove`."""

    @abstractmethod
    def remove(self, rules: UpkeepRules, now: datetime) -> StepDone:
        """Delete old files that no retained metadata refers to. Raises UpkeepRefused, having deleted nothing."""
