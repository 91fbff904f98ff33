"""The provider's token bucket: how many there are, and how long until there are enough. Pure arithmetic.

Every answer, errors too, tells tokensLeft, refillIn (milliseconds until new ones come) and refillRate (a minute). A
product costs one. A request is taken while the balance is positive and may take it below zero; tokens older than an
hour expire (Keepa's documentation of its product request, and its Java client's Response).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

SECONDS_A_MINUTE = 60.0
MINUTES_KEPT = 60
LONGEST_WAIT_SECONDS = 3600.0
"""An hour fills the bucket; a longer wait says only that the answer was wrong."""


@dataclass(frozen=True, slots=True)
class TokenLevel:
    """What an answer said, and when: `left` may be negative."""

    left: int
    refill_in_seconds: float
    refill_per_minute: float
    observed_at: datetime

    def at(self, now: datetime) -> float:
        """Return how many there are by now, if nobody else spends."""
        elapsed = max((now - self.observed_at).total_seconds(), 0.0)
        refilled = max(elapsed - self.refill_in_seconds, 0.0) / SECONDS_A_MINUTE * self.refill_per_minute
        return min(self.left + refilled, max(float(self.left), self.capacity))

    @property
    def capacity(self) -> float:
        """What the bucket holds at most: an hour of refill."""
        return self.refill_per_minute * MINUTES_KEPT

    def wait_seconds(self, needed: int, now: datetime) -> float:
        """Return how long from `now` until `needed` are there: refillIn + missing / refillRate after the answer.

        More than the bucket holds is never waited for: a full one takes the request and goes below zero. An hour after
        the answer the provider is asked again whatever it said: only an answer tells a new level.
        """
        wanted = min(float(needed), max(self.capacity, 1.0))
        missing = wanted - self.left
        if missing <= 0:
            return 0.0
        whole = LONGEST_WAIT_SECONDS
        if self.refill_per_minute > 0:
            refilled = self.refill_in_seconds + missing / self.refill_per_minute * SECONDS_A_MINUTE
            whole = min(refilled, LONGEST_WAIT_SECONDS)
        return max(whole - max((now - self.observed_at).total_seconds(), 0.0), 0.0)

    def less(self, spent: int) -> TokenLevel:
        """Return the level after a request that has not been answered yet."""
        return replace(self, left=self.left - spent)
