"""Step 4: sales into the sales table in DynamoDB, and out again where the other store does not take them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

from salesintel_dagster.domain.errors import SaleNotFound, SaleRefused
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import CorrectionOutcome, PutOutcome, SalesRepository
from salesintel_dagster.domain.tenancy import CallerContext


class Entered(Enum):
    """What the sales table says of an event."""

    THERE = auto()
    """The table holds exactly this, since now or before."""
    SUPERSEDED = auto()
    """The table holds a higher version of the sale."""
    CONFLICT = auto()
    """The table holds something else of the same version, or the sale in another month."""
    REFUSED = auto()
    """The sale breaks a rule of the table."""


RACES_RUN = 5
"""How often a sale is entered again that was there for the put and not for the look-up."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event's outcome; `held_hash` is what the table holds, `refusal` why it takes the sale never."""

    entered: Entered
    held_hash: str
    refusal: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Enters sales with up to `writers` calls at once; those of one sale id in turn."""

    sales: SalesRepository
    writers: int

    def enter(self, events: Sequence[SaleEvent]) -> list[Entry]:
        """Return what became of each event, in order. Raises SalesUnavailable."""
        by_identity: defaultdict[SaleIdentity, list[int]] = defaultdict(list)
        for number, event in enumerate(events):
            by_identity[event.identity].append(number)
        groups = list(by_identity.values())
        entries: dict[int, Entry] = {}
        for group, outcomes in zip(groups, self._at_once(groups, events), strict=True):
            entries |= dict(zip(group, _last_stands(outcomes), strict=True))
        return [entries[number] for number in range(len(events))]

    def withdraw(self, events: Sequence[SaleEvent]) -> None:
        """Take back what was entered, where it is still what the table holds. Raises SalesUnavailable."""
        for event in events:
            context = CallerContext(event.identity.tenant_id)
            held = self.sales.by_sale_id(context, event.identity.sale_id)
            if held is None or held.record.payload_hash != event.record.payload_hash:
                continue
            try:
                self.sales.delete(context, event.identity.sale_id, held.revision)
            except SaleNotFound:
                continue

    def _at_once(self, groups: Sequence[list[int]], events: Sequence[SaleEvent]) -> list[list[Entry]]:
        def enter_all(group: list[int]) -> list[Entry]:
            return [self._enter(events[number].record) for number in group]

        if self.writers == 1 or len(groups) <= 1:
            return [enter_all(group) for group in groups]
        with ThreadPoolExecutor(min(self.writers, len(groups)), "ledger") as pool:
            return list(pool.map(enter_all, groups))

    def _enter(self, record: SaleRecord, races: int = RACES_RUN) -> Entry:
        context = CallerContext(record.tenant)
        try:
            put = self.sales.put(context, record)
            if put.outcome is not PutOutcome.CONFLICT:
                return Entry(Entered.THERE, put.held_hash)
            return self._corrected(context, record, put.held_hash, races)
        except SaleRefused as refused:
            rejection = Rejection("SALE_REFUSED", refused.field, refused.value, refused.rule)
            return Entry(Entered.REFUSED, "", rejection)

    def _corrected(self, context: CallerContext, record: SaleRecord, held_hash: str, races: int) -> Entry:
        """Judge an event of a sale that is there with another payload.

        A correction stays in the sale's month: the other store finds a sale by its month, so that a row elsewhere
        would be a second one.
        """
        held = self.sales.by_sale_id(context, record.sale_id)
        if held is None:  # gone in between; a sale that has lost its guard says so for ever
            return self._enter(record, races - 1) if races else Entry(Entered.CONFLICT, held_hash)
        if held.record.payload_hash == record.payload_hash:  # another worker has just entered it
            return Entry(Entered.THERE, held_hash)
        if held.record.event_version > record.event_version:
            return Entry(Entered.SUPERSEDED, held.record.payload_hash)
        if held.record.event_version == record.event_version or _month(held.record) != _month(record):
            return Entry(Entered.CONFLICT, held_hash)
        corrected = self.sales.correct(context, record)
        if corrected.outcome is CorrectionOutcome.CONFLICT:
            return Entry(Entered.CONFLICT, corrected.held_hash)
        stale = corrected.outcome is CorrectionOutcome.STALE
        return Entry(Entered.SUPERSEDED if stale else Entered.THERE, corrected.held_hash)


def _month(record: SaleRecord) -> tuple[int, int]:
    return record.sold_date.year, record.sold_date.month


def _last_stands(outcomes: Sequence[Entry]) -> list[Entry]:
    """Let only the last of a sale's versions that the table took go on: the others are superseded by it."""
    standing = [number for number, one in enumerate(outcomes) if one.entered is Entered.THERE][-1:]
    return [
        Entry(Entered.SUPERSEDED, outcomes[standing[0]].held_hash)
        if one.entered is Entered.THERE and number not in standing
        else one
        for number, one in enumerate(outcomes)
    ]
