"""Step 4: sales into the sales table in DynamoDB, and out again where the other store does not take them.

A correction is only judged in step 4. It takes its predecessor's place after the other store has taken it: one that is
refused there would otherwise have to bring back what it had overwritten, and a worker may die in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from typing import TypeVar

from salesintel_dagster.domain.errors import RevisionConflict, SaleNotFound, SaleRefused
from salesintel_dagster.domain.sale import Rejection
from salesintel_dagster.domain.sale_event import SaleEvent, SaleIdentity
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_repository import CorrectionOutcome, PutOutcome, SalesRepository
from salesintel_dagster.domain.tenancy import CallerContext

Item = TypeVar("Item")
Result = TypeVar("Result")


class Entered(Enum):
    """What the sales table says of an event."""

    THERE = auto()
    """The table holds exactly this, since now or before."""
    CORRECTS = auto()
    """The table holds a lower version of the sale, in the same month, and goes on holding it until `correct`."""
    SUPERSEDED = auto()
    """The table holds a higher version of the sale."""
    CONFLICT = auto()
    """The table holds something else of the same version."""
    MOVES = auto()
    """The table holds a lower version of the sale, in another month."""
    REFUSED = auto()
    """The sale breaks a rule of the table."""


RACES_RUN = 5
"""How often a sale is entered again that was there for the put and not for the look-up."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event's outcome; `held_hash` is what the table holds, `refusal` why it takes the sale never.

    `held_day` is the day of the higher version, where there is one.
    """

    entered: Entered
    held_hash: str
    refusal: Rejection | None = None
    held_day: date | None = None


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
        entries: dict[int, Entry] = {}

        def enter_all(group: list[int]) -> list[tuple[int, Entry]]:
            return [(number, self._enter(events[number].record)) for number in group]

        for found in self._at_once(enter_all, list(by_identity.values())):
            entries |= dict(found)
        return [entries[number] for number in range(len(events))]

    def correct(self, events: Sequence[SaleEvent]) -> dict[SaleIdentity, str]:
        """Let each take the place of a lower version; a higher one that has come meanwhile stays.

        Return the hash that is held where it is another payload of the same version. Raises SalesUnavailable.
        """
        found = self._at_once(lambda event: self._correct(event.record), events)
        return {event.identity: held for event, held in zip(events, found, strict=True) if held is not None}

    def withdraw(self, events: Sequence[SaleEvent]) -> None:
        """Take back what was entered new, where it is still what the table holds. Raises SalesUnavailable."""
        for event in events:
            self.sales.withdraw(CallerContext(event.identity.tenant_id), event.record)

    def _at_once(self, act: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self.writers == 1 or len(items) <= 1:
            return [act(one) for one in items]
        with ThreadPoolExecutor(min(self.writers, len(items)), "ledger") as pool:
            return list(pool.map(act, items))

    def _enter(self, record: SaleRecord, races: int = RACES_RUN) -> Entry:
        context = CallerContext(record.tenant)
        try:
            put = self.sales.put(context, record)
            if put.outcome is PutOutcome.CONFLICT:
                return self._judged(context, record, put.held_hash, races)
            if put.outcome is PutOutcome.DUPLICATE and record.embedding is not None:
                self._completed(context, record)
            return Entry(Entered.THERE, put.held_hash)
        except SaleRefused as refused:
            rejection = Rejection("SALE_REFUSED", refused.field, refused.value, refused.rule)
            return Entry(Entered.REFUSED, "", rejection)

    def _correct(self, record: SaleRecord, races: int = RACES_RUN) -> str | None:
        context = CallerContext(record.tenant)
        try:
            corrected = self.sales.correct(context, record)
        except SaleNotFound:  # another worker has withdrawn what was there: its row was refused
            put = self.sales.put(context, record)
            if put.outcome is PutOutcome.CONFLICT:
                return self._correct(record, races - 1) if races else put.held_hash
            return None
        return corrected.held_hash if corrected.outcome is CorrectionOutcome.CONFLICT else None

    def _completed(self, context: CallerContext, record: SaleRecord) -> None:
        """Give a sale that a repair wrote from `sales_history` the place of its vector, which that does not know."""
        held = self.sales.by_sale_id(context, record.sale_id)
        if held is not None and held.record.payload_hash == record.payload_hash and held.record.embedding is None:
            with suppress(SaleNotFound, RevisionConflict):  # another worker is doing it, or has withdrawn the sale
                self.sales.update(context, record.sale_id, {"embedding": record.embedding}, held.revision)

    def _judged(self, context: CallerContext, record: SaleRecord, held_hash: str, races: int) -> Entry:
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
            return Entry(Entered.SUPERSEDED, held.record.payload_hash, held_day=held.record.sold_date)
        if held.record.event_version == record.event_version:
            return Entry(Entered.CONFLICT, held_hash)
        return Entry(Entered.CORRECTS if _month(held.record) == _month(record) else Entered.MOVES, held_hash)


def _month(record: SaleRecord) -> tuple[int, int]:
    return record.sold_date.year, record.sold_date.month
