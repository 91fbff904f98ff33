"""What holds paid calls back: how many at once, and how many in all. Thread-safe; knows nothing of what is called."""

from __future__ import annotations

import threading

from salesintel_dagster.flows.export.day_spend import DaySpend

SMALLEST_LIMIT = 1.0


class Slots:
    """Places for calls at once: `maximum` to begin with, half after a throttled one, slowly more again after good ones.

    A quota is a rate. Who was throttled keeps his slot while he waits: freeing it would let the next one run into
    the same wall (measured on others: 360 and 472 of 600 rows lost that way).
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._limit = float(maximum)
        self._held = 0
        self._cuts = 0
        self._freed = threading.Condition()

    def __enter__(self) -> None:
        """Wait for a free slot and take it."""
        with self._freed:
            while self._held >= int(self._limit):
                self._freed.wait()
            self._held += 1

    def __exit__(self, *_: object) -> None:
        """Free the slot."""
        with self._freed:
            self._held -= 1
            self._freed.notify()

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return int(self._limit)

    def call_begins(self) -> int:
        """Return what `throttled` wants to know of a call: after how many cuts it began."""
        return self._cuts

    def throttled(self, began: int) -> None:
        """Halve the limit, once for all calls that were under way together: 32 refusals at once are one message."""
        with self._freed:
            if began == self._cuts:
                self._cuts += 1
                self._limit = max(SMALLEST_LIMIT, self._limit / 2)

    def succeeded(self) -> None:
        """Raise the limit by one for each whole round of good calls, never above the maximum."""
        with self._freed:
            if self._limit < self._maximum:
                self._limit = min(self._maximum, self._limit + 1 / self._limit)
                self._freed.notify()


class CallBudget:
    """Paid calls left to one run. Days of the same run share one; `day` is the budget that all runs of today share."""

    def __init__(self, calls: int, day: DaySpend | None = None) -> None:
        self._left = calls
        self._lock = threading.Lock()
        self._day = day

    @property
    def left(self) -> int:
        """Calls that may still be made, as far as is known without asking anybody."""
        return 0 if self._day is not None and self._day.used_up else self._left

    @property
    def spent_by(self) -> str:
        """Whose budget it is that has no call left."""
        return "the run's" if self._left <= 0 else "the day's"

    @property
    def unavailable(self) -> str | None:
        """Why the day's spend could not be told to its ledger, if so."""
        return None if self._day is None else self._day.unavailable

    def take(self) -> bool:
        """Take one call; False when none is left."""
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= 1
        if self._day is None or self._day.take():
            return True
        with self._lock:
            self._left += 1
        return False

    def give_back(self) -> None:
        """Return a call that the provider does not bill: it was throttled, or never sent."""
        with self._lock:
            self._left += 1
        if self._day is not None:
            self._day.give_back()

    def settle(self) -> None:
        """End the run's accounts with the day's."""
        if self._day is not None:
            self._day.settle()
