"""Giving a ttl to items that were written without one: what is due, the count of it, and the port it is done through.

An item that has a ttl is never touched, one that has gone is never made again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from salesintel_dagster.domain.retention import ttl_of
from salesintel_dagster.domain.sales_keys import GUARD_SORT_KEY, KeyPair, read_sale_key

MAX_NAMED = 20
"""Items named in a report; the rest are counted."""


class TtlState(StrEnum):
    """How an item stands to its ttl."""

    DUE = "due"
    THERE = "there"
    UNREADABLE = "unreadable"
    OTHER = "other"
    """Neither a sale nor its guard: such an item does not expire."""


@dataclass(frozen=True, slots=True)
class TtlItem:
    """What a page of the table says of one item. `ttl_type` is DynamoDB's type letter of its ttl, None without one."""

    key: KeyPair
    sold_date: str | None
    ttl_type: str | None


@dataclass(frozen=True, slots=True)
class TtlPage:
    """Some items of the table, and the key behind which the next page begins; None: there is none."""

    items: tuple[TtlItem, ...]
    after: KeyPair | None


class SetOutcome(StrEnum):
    """What became of one item."""

    SET = "set"
    THERE = "there"
    """Somebody was first; it stays as it is."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class TtlTally:
    """The count of a backfill; `scanned` is the sum of the five after it.

    `set_` items got a ttl, in a dry run would get one; `too_old` are those of them that DynamoDB never deletes, since
    their ttl lies more than five years back.
    """

    scanned: int = 0
    there: int = 0
    set_: int = 0
    gone: int = 0
    unreadable: int = 0
    other: int = 0
    too_old: int = 0
    too_old_keys: tuple[str, ...] = ()
    unreadable_keys: tuple[str, ...] = ()

    def plus(self, state: TtlState | SetOutcome, key: KeyPair, *, too_old: bool = False) -> TtlTally:
        """Return the tally with one item more."""
        name = "set_" if state is SetOutcome.SET else state.value
        counted = replace(self, scanned=self.scanned + 1, **{name: getattr(self, name) + 1})
        if too_old:
            counted = replace(counted, too_old=self.too_old + 1, too_old_keys=_named(self.too_old_keys, key))
        if state is TtlState.UNREADABLE:
            counted = replace(counted, unreadable_keys=_named(self.unreadable_keys, key))
        return counted


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a backfill is: everything up to `after` is done and counted."""

    after: KeyPair
    tally: TtlTally


class TtlStore(ABC):
    """The table as the backfill sees it, over all tenants. All may raise SalesUnavailable."""

    @abstractmethod
    def page(self, after: KeyPair | None, most: int) -> TtlPage:
        """Return up to `most` items behind `after`."""

    @abstractmethod
    def set_ttl(self, item: TtlItem, ttl: int) -> SetOutcome:
        """Give an item its ttl if it is there and has none."""

    @abstractmethod
    def checkpoint(self) -> Checkpoint | None:
        """Return where an unfinished backfill stopped."""

    @abstractmethod
    def keep(self, checkpoint: Checkpoint | None) -> None:
        """Remember where this backfill is; None: it has ended."""


class TtlRehearsal(TtlStore):
    """A dry run: reads as the real one does, writes nothing, begins at the beginning."""

    def __init__(self, inner: TtlStore) -> None:
        self._inner = inner

    def page(self, after: KeyPair | None, most: int) -> TtlPage:
        """Return the real page."""
        return self._inner.page(after, most)

    def set_ttl(self, item: TtlItem, ttl: int) -> SetOutcome:  # noqa: ARG002 - the port's signature
        """Say what would be done."""
        return SetOutcome.SET

    def checkpoint(self) -> Checkpoint | None:
        """Return none: a rehearsal counts the whole table."""
        return None

    def keep(self, checkpoint: Checkpoint | None) -> None:
        """Remember nothing."""


def judged(item: TtlItem) -> tuple[TtlState, int | None]:
    """Return how an item stands and, where it is due, the ttl it gets: by its key's day, a guard's by its attribute."""
    sale = read_sale_key(item.key)
    if sale is None and item.key.sort != GUARD_SORT_KEY and not item.key.sort.startswith("SALE#"):
        return TtlState.OTHER, None
    if item.ttl_type is not None:  # DynamoDB ignores a ttl that is no Number, and we change none that is there
        return (TtlState.THERE if item.ttl_type == "N" else TtlState.UNREADABLE), None
    try:
        day = sale[1].sold_date if sale is not None else date.fromisoformat(item.sold_date or "")
        return TtlState.DUE, ttl_of(day)
    except ValueError:
        return TtlState.UNREADABLE, None


def _named(names: tuple[str, ...], key: KeyPair) -> tuple[str, ...]:
    return (*names, f"{key.partition} {key.sort}")[:MAX_NAMED]
