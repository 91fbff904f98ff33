"""How far one day's export is: the record an operator reads while it runs and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

MAX_ERRORS_KEPT = 50
"""First errors kept by name; the rest are counted. A DynamoDB item ends at 400 KB."""
MAX_ERROR_CHARACTERS = 300
PROGRESS_RETENTION = timedelta(days=90)


class RunState(StrEnum):
    """LOST is a run that died without a word; a later run or the reconcile step sets it."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Progress:
    """One run's progress on one day. `errors` holds the first 50, `error_count` them all."""

    day: date
    run_id: str
    started_at: datetime
    updated_at: datetime
    state: RunState
    stage: str
    sales: int = 0
    quarantined: int = 0
    images_ok: int = 0
    embedded: int = 0
    paid_calls: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    error_count: int = 0
    finished_at: datetime | None = None

    @property
    def expires_at(self) -> datetime:
        """When the ledger may forget this record."""
        return self.started_at + PROGRESS_RETENTION


def bounded_errors(errors: list[str]) -> tuple[str, ...]:
    """Return the first errors, each cut to a readable length."""
    return tuple(error[:MAX_ERROR_CHARACTERS] for error in errors[:MAX_ERRORS_KEPT])
