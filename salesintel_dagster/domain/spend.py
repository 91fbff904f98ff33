"""What a day's embeddings cost so far, over all runs: the port."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date
from decimal import Decimal


class SpendLedger(ABC):
    """USD spent by UTC day, shared by every run and outliving their processes. Losing it never fails an export."""

    @abstractmethod
    def reserve(self, day: date, usd: Decimal, limit_usd: Decimal) -> bool:
        """Add `usd` to the day unless that takes it over the limit; tell whether it did. One atomic step.

        Raises ProgressUnavailable.
        """

    @abstractmethod
    def add(self, day: date, usd: Decimal) -> None:
        """Add what was spent unasked, or give back (below zero) what was reserved. Raises ProgressUnavailable."""

    @abstractmethod
    def spent(self, day: date) -> Decimal:
        """Return the day's spend, reservations included; 0 where nothing is known. Raises ProgressUnavailable."""
