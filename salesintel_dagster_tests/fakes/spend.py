"""The day's spend in memory, which can be down."""

from __future__ import annotations

import threading
from datetime import date
from decimal import Decimal

from salesintel_dagster.domain.errors import ProgressUnavailable
from salesintel_dagster.domain.spend import SpendLedger


class InMemorySpendLedger(SpendLedger):
    """`by_day` is what was spent; `down = True` makes every call fail; `asked` counts them."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.asked = 0
        self.by_day: dict[date, Decimal] = {}
        self._lock = threading.Lock()

    def reserve(self, day: date, usd: Decimal, limit_usd: Decimal) -> bool:
        with self._lock:
            self._check()
            if self.by_day.get(day, Decimal(0)) + usd > limit_usd:
                return False
            self.by_day[day] = self.by_day.get(day, Decimal(0)) + usd
            return True

    def add(self, day: date, usd: Decimal) -> None:
        with self._lock:
            self._check()
            self.by_day[day] = self.by_day.get(day, Decimal(0)) + usd

    def spent(self, day: date) -> Decimal:
        with self._lock:
            self._check()
            return self.by_day.get(day, Decimal(0))

    def _check(self) -> None:
        self.asked += 1
        if self.down:
            raise ProgressUnavailable("the progress table is down")
