"""What a sync works with, how it behaves, and what it tells: the ports, the rules and the tallies."""

from __future__ import annotations

from dataclasses import dataclass, fields

from salesintel_dagster.domain.checks import MAX_OFFENDERS_NAMED
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.event_queue import EventQueue, QuarantineQueue
from salesintel_dagster.domain.keyed_table import KeyedTable, TableMonth
from salesintel_dagster.domain.receipts import Receipts
from salesintel_dagster.domain.sale_event import EventRules
from salesintel_dagster.domain.sales_repository import SalesRepository

VISIBILITY_PER_GATHERING = 6
"""A message stays ours for at least this many times the gathering of a batch; longer work extends it."""


@dataclass(frozen=True, slots=True)
class SyncParts:
    """The ports. `ledger` is the sales table in DynamoDB, `table` is `sales_history`."""

    queue: EventQueue
    quarantine: QuarantineQueue
    receipts: Receipts
    ledger: SalesRepository
    table: KeyedTable


@dataclass(frozen=True, slots=True)
class SyncRules:
    """How the queue is drained. Raises SettingInvalid where a message could come again while it is gathered.

    A batch ends at `batch_messages`, or when `gather_seconds` have passed since its first message and the queue gives
    no full hand any more: under a steady trickle each gathering is a commit, and 20 s are 4,320 of them a day. A drain
    ends when nothing came for `idle_seconds`, or begins no batch after `deadline_seconds`.
    """

    events: EventRules
    batch_messages: int = 100
    gather_seconds: float = 20.0
    idle_seconds: float = 20.0
    deadline_seconds: float = 900.0
    visibility_seconds: int = 180
    ledger_writers: int = 8

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        if self.visibility_seconds < VISIBILITY_PER_GATHERING * self.gather_seconds:
            raise SettingInvalid(
                f"visibility_seconds: {self.visibility_seconds} is less than {VISIBILITY_PER_GATHERING} times "
                f"gather_seconds ({self.gather_seconds})"
            )


@dataclass(frozen=True, slots=True)
class SyncTally:
    """What became of messages; `written` to `quarantined` add up to `received`.

    `written`: a row went into `sales_history`; `duplicates`: both stores had it; `superseded`: a higher version was
    there; `conflicts`: the stores hold another payload of the same version; `quarantined`: every other message that no
    store takes. `left` were not deleted by the queue and come again. Lags are seconds from sending to commit, summed
    over `written` and at most. `oldest_seconds` is the greatest age at which a message was received. Of a batch that an
    error ended, the sums hold what was done until then. `left` that wait for a higher version of theirs are in no other
    count. `conflicting` names the first sales in conflict, as tenant/sale.
    """

    received: int = 0
    written: int = 0
    duplicates: int = 0
    superseded: int = 0
    conflicts: int = 0
    quarantined: int = 0
    left: int = 0
    batches: int = 0
    commits: int = 0
    commit_attempts: int = 0
    lag_seconds_sum: float = 0.0
    lag_seconds_most: float = 0.0
    oldest_seconds: float = 0.0
    months: frozenset[TableMonth] = frozenset()
    conflicting: tuple[str, ...] = ()

    def __add__(self, other: SyncTally) -> SyncTally:
        """Return both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        most = {name: max(getattr(self, name), getattr(other, name)) for name in _GREATEST}
        named = tuple(dict.fromkeys((*self.conflicting, *other.conflicting)))[:MAX_OFFENDERS_NAMED]
        return SyncTally(**sums, **most, months=self.months | other.months, conflicting=named)

    @property
    def lag_seconds_mean(self) -> float | None:
        """Mean seconds from sending to commit; None where nothing was written."""
        return self.lag_seconds_sum / self.written if self.written else None


_GREATEST = ("lag_seconds_most", "oldest_seconds")
_SUMMED = tuple(field.name for field in fields(SyncTally) if field.name not in {*_GREATEST, "months", "conflicting"})
