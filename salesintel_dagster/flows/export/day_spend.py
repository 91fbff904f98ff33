"""The day's budget of paid calls, of which this run reserves a block at a time.

Two runs at once share it through the ledger. A run that is killed leaves at most one block counted and not spent.
A ledger that is down holds nobody up: calls go on under the run's own budget and are added when it is back.
"""

from __future__ import annotations

import threading
from datetime import UTC, date
from decimal import Decimal

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.spend import SpendLedger
from salesintel_dagster.flows.export.run import UNAVAILABLE_SECONDS

BLOCK_CALLS = 100
"""One write to the ledger for so many calls: 0.006 USD at Titan's price, 15 s of them at a usual concurrency."""


class DaySpend:
    """Thread-safe. `unavailable` says why the ledger was not told, as long as it was not."""

    def __init__(self, ledger: SpendLedger, price_usd: Decimal, limit_usd: Decimal, clock: Clock) -> None:
        self._ledger = ledger
        self._price = price_usd
        self._limit = limit_usd
        self._clock = clock
        self._lock = threading.Lock()
        self._day = self._today()
        self._held = 0
        self._refused = False
        self._next_try_at = float("-inf")
        self.unavailable: str | None = None

    @property
    def used_up(self) -> bool:
        """Whether the day has no call left for this run."""
        return self._refused and self._held <= 0 and self._day == self._today()

    def take(self) -> bool:
        """Take one call; False when the day has none left."""
        with self._lock:
            self._turn()
            if self._held <= 0 and not self._refused:
                self._reserve()
            if self._held <= 0 and self.unavailable is None:
                return False
            self._held -= 1  # below zero: made while the ledger was down, and owed to it
            return True

    def give_back(self) -> None:
        """Return a call that is not billed."""
        with self._lock:
            self._held += 1

    def settle(self) -> None:
        """Tell the ledger what was reserved and not spent, or spent and not told."""
        with self._lock:
            self._settle()

    def _today(self) -> date:
        return self._clock.now().astimezone(UTC).date()

    def _turn(self) -> None:
        today = self._today()
        if today != self._day:
            self._settle()
            self._day, self._held, self._refused = today, 0, False

    def _reserve(self) -> None:
        if self._clock.monotonic() < self._next_try_at:
            return
        try:
            self._pay_back()
            calls = BLOCK_CALLS
            while calls and not self._ledger.reserve(self._day, calls * self._price, self._limit):
                calls //= 2
        except ProgressUnavailable as error:
            self._left_alone(error)
            return
        self._held, self._refused, self.unavailable = calls, calls == 0, None

    def _settle(self) -> None:
        try:
            self._pay_back()
        except ProgressUnavailable as error:
            self._left_alone(error)

    def _pay_back(self) -> None:
        if self._held:
            self._ledger.add(self._day, -self._held * self._price)
            self._held = 0

    def _left_alone(self, error: ProgressUnavailable) -> None:
        self.unavailable = str(error)
        self._next_try_at = self._clock.monotonic() + UNAVAILABLE_SECONDS
