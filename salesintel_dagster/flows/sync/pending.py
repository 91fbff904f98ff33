"""What a micro-batch carries from step to step: payloads of sales, and which of a sale's versions goes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeVar

from salesintel_dagster.domain.event_queue import Quarantined, QueuedMessage
from salesintel_dagster.domain.keyed_table import KeyedTable
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster.flows.sync.ledger import Entered, Entry

CONFLICT = "CONFLICT"
ROW_REFUSED = "ROW_REFUSED"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pending:
    """One payload of one sale, with every message of the batch that says it.

    `corrects`: the sales table holds a lower version, which stays there until `sales_history` has taken this one.
    """

    event: SaleEvent
    messages: tuple[QueuedMessage, ...]
    corrects: bool = False

    @property
    def identity(self) -> SaleIdentity:
        """What the sale is known by."""
        return self.event.identity

    @property
    def version(self) -> int:
        """Which correction of the sale this is."""
        return self.event.record.event_version


@dataclass(frozen=True, slots=True)
class Behind:
    """A payload that another version of its sale goes before; `day` is that of the higher one in the sales table."""

    pending: Pending
    day: date


def foremost(found: Sequence[tuple[Pending, Entry]]) -> tuple[list[Pending], list[Behind]]:
    """Return the highest version of each sale that the sales table takes, the first of equals; and all others.

    The others are answered when it is known whether both stores have taken that one.
    """
    standing: defaultdict[SaleIdentity, list[Pending]] = defaultdict(list)
    behind: list[Behind] = []
    for one, told in found:
        if told.entered in (Entered.THERE, Entered.CORRECTS):
            standing[one.identity].append(replace(one, corrects=told.entered is Entered.CORRECTS))
        elif told.entered is Entered.SUPERSEDED:
            behind.append(Behind(one, told.held_day or one.event.record.sold_date))
    first = {identity: max(versions, key=lambda one: one.version) for identity, versions in standing.items()}
    for identity, versions in standing.items():
        behind += [Behind(one, one.event.record.sold_date) for one in versions if one is not first[identity]]
    return list(first.values()), behind


def held_higher(table: KeyedTable, behind: Iterable[Behind]) -> list[Pending]:
    """Return those of which the table holds a higher version. Raises TableUnavailable."""
    by_day: defaultdict[tuple[str, date], list[Pending]] = defaultdict(list)
    for one in behind:
        by_day[one.pending.identity.tenant_id, one.day].append(one.pending)
    found: list[Pending] = []
    for (tenant, day), pending in by_day.items():
        rows = table.rows_of(tenant, day, {one.identity.sale_id for one in pending})
        held = dict(zip(rows["sale_id"].to_pylist(), rows["event_version"].to_pylist(), strict=True))
        found += [one for one in pending if held.get(one.identity.sale_id, 0) > one.version]
    return found


def bisected(
    pending: Sequence[Pending], act: Callable[[Sequence[Pending]], Result], errors: tuple[type[Exception], ...]
) -> tuple[list[Result], list[tuple[Pending, Exception]]]:
    """Act on all together; where that raises one of `errors`, on the halves, down to the one. Return what it gave.

    Beside it those that it raises for alone, with the error.
    """
    if not pending:
        return [], []
    try:
        return [act(pending)], []
    except errors as error:
        if len(pending) == 1:
            return [], [(pending[0], error)]
    middle = len(pending) // 2
    (first, alone), (second, also) = (bisected(half, act, errors) for half in (pending[:middle], pending[middle:]))
    return first + second, alone + also


def message_count(pending: Iterable[Pending]) -> int:
    """Return how many messages say them."""
    return sum(len(one.messages) for one in pending)


def messages_of(pending: Iterable[Pending]) -> list[QueuedMessage]:
    """Return the messages that say them."""
    return [message for one in pending for message in one.messages]


def without(pending: Iterable[Pending], identities: Collection[SaleIdentity]) -> list[Pending]:
    """Return those of other sales."""
    return [one for one in pending if one.identity not in identities]


def lags(pending: Sequence[Pending], now: datetime) -> list[float]:
    """Return the seconds since each was sent."""
    return [(now - (one.event.sent_at or one.messages[0].sent_at)).total_seconds() for one in pending]


def row_refused(pending: Pending, error: Exception) -> Rejection:
    """Return why a payload is no row."""
    return Rejection(ROW_REFUSED, "detail", pending.identity.sale_id, f"a row that sales_history takes: {error}")


def contradicts(pending: Pending) -> Rejection:
    """Return why a payload is not taken beside another of its version."""
    rule = "one sale id and version has one payload; the first stays"
    return Rejection(CONFLICT, "saleId", pending.identity.sale_id, rule)


def moved(pending: Pending) -> Rejection:
    """Return why a correction is not taken that puts its sale elsewhere."""
    rule = "a correction stays in the month of its sale; the sale as it was stays"
    return Rejection(CONFLICT, "soldAt", pending.event.record.sold_at.isoformat(), rule)


def entries(pending: Pending, rejection: Rejection, held_hash: str | None) -> list[Quarantined]:
    """Return its messages as the quarantine keeps them."""
    tenant, sale = pending.identity
    return [
        Quarantined(one, rejection, tenant, sale, pending.event.record.payload_hash, held_hash)
        for one in pending.messages
    ]
