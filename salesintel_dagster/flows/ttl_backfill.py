"""Give a ttl to every item of the sales table that has none, page by page, and go on where a killed one stopped.

Each page is done before its checkpoint is kept: a kill repeats at most one page, and repeating changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.retention import outlives_dynamodb
from salesintel_dagster.domain.ttl_backfill import (
    Checkpoint,
    SetOutcome,
    TtlItem,
    TtlStore,
    TtlTally,
    judged,
)

PAGE_ITEMS = 100
ITEMS_PER_SECOND = 200
MOST_ITEMS_PER_SECOND = 5_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how fast: the table serves look-ups and the event sync meanwhile."""

    page_items: int = PAGE_ITEMS
    items_per_second: int = ITEMS_PER_SECOND


def backfill_ttl(store: TtlStore, clock: Clock, pace: Pace, *, restart: bool = False) -> Iterator[TtlTally]:
    """Do it; yield the count after each page, at least once. Goes on behind the kept checkpoint unless `restart`.

    Give it a `TtlRehearsal` for a dry run. Raises SalesUnavailable; the next call then goes on.
    """
    begun = None if restart else store.checkpoint()
    after = begun.after if begun is not None else None
    tally = begun.tally if begun is not None else TtlTally()
    while True:
        began = clock.monotonic()
        page = store.page(after, pace.page_items)
        for item in page.items:
            tally = _done(store, item, tally, clock)
        after = page.after
        store.keep(Checkpoint(after, tally) if after is not None else None)
        yield tally
        if after is None:
            return
        clock.sleep(max(0.0, began + len(page.items) / pace.items_per_second - clock.monotonic()))


def _done(store: TtlStore, item: TtlItem, tally: TtlTally, clock: Clock) -> TtlTally:
    state, ttl = judged(item)
    if ttl is None:
        return tally.plus(state, item.key)
    outcome = store.set_ttl(item, ttl)
    too_old = outcome is SetOutcome.SET and outlives_dynamodb(ttl, clock.now())
    return tally.plus(outcome, item.key, too_old=too_old)


def lines(tally: TtlTally, *, dry_run: bool) -> tuple[str, ...]:
    """Return the count as sentences, for a log or a terminal."""
    done = "would get a ttl" if dry_run else "got a ttl"
    met = f"{tally.there} have a ttl, {tally.set_} {done}, {tally.gone} went meanwhile"
    told = [f"{tally.scanned} items: {met}, {tally.unreadable} unreadable, {tally.other} of other kinds"]
    if tally.too_old:
        told.append(
            f"{tally.too_old} are of sales more than seven years old: hidden by every read, but DynamoDB deletes "
            "nothing whose ttl lies more than five years back; delete them yourself:"
        )
        told += _keys(tally.too_old_keys, tally.too_old)
    if tally.unreadable:
        told.append(f"{tally.unreadable} stay without a ttl: no day of sale to be read, or a ttl that is no number:")
        told += _keys(tally.unreadable_keys, tally.unreadable)
    return tuple(told)


def _keys(named: tuple[str, ...], count: int) -> list[str]:
    more = [f"  ... and {count - len(named)} more"] if count > len(named) else []
    return [*(f"  {key}" for key in named), *more]
