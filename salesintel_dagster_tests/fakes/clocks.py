"""Clocks that a test sets: they stand still but for what is slept."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from salesintel_dagster.domain.clock import Clock


@dataclass
class SetClock:
    """`at` is now, to be set; `slept` lists every wait, in seconds."""

    at: datetime = datetime(2026, 11, 27, 9, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.at, self._seconds, self._sleep, lambda: 0.0)

    def _seconds(self) -> float:
        return self.at.timestamp()

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.at += timedelta(seconds=seconds)


def held_clock() -> Clock:
    """A clock whose sleep moves its time: waits cost nothing and are all seen by the deadline."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Clock(lambda: datetime(2026, 11, 21, 3, tzinfo=UTC), lambda: now[0], sleep, lambda: 0.5)
