"""The image fetcher in memory: outcomes by URL, a record of every call, and how many were under way at once."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from PIL import Image

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher

EPOCH = datetime(2026, 11, 21, 3, tzinfo=UTC)

Outcome = FetchedImage | BaseException


def picture(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (16, 12)) -> bytes:
    """Draw a small picture: another one for another seed."""
    image = Image.effect_noise(size, 40) if kind == "NOISE" else Image.new("L", size, seed % 251)
    image.putpixel((0, 0), (seed // 251) % 251)
    packed = io.BytesIO()
    image.convert("RGB").save(packed, "JPEG" if kind == "NOISE" else kind, quality=92)
    return packed.getvalue()


def fetched(seed: int = 0, kind: str = "JPEG") -> FetchedImage:
    return FetchedImage(picture(seed, kind), f"image/{kind.lower()}", 16, 12)


class ScriptedImages(ImageFetcher):
    """`by_url` is what each call for a URL does in turn, the last one for ever; other URLs give `default`.

    `calls` lists the URLs asked for; `peak` and `peak_per_host` are the most fetches under way at once. While `gate`
    is not set, a URL in `held` waits for it.
    """

    def __init__(
        self,
        by_url: Mapping[str, Sequence[Outcome]] | None = None,
        default: Outcome | None = None,
        latency_seconds: float = 0.0,
    ) -> None:
        self.by_url = {url: list(outcomes) for url, outcomes in (by_url or {}).items()}
        self.default = default or fetched()
        self.latency_seconds = latency_seconds
        self.calls: list[str] = []
        self.deadlines: list[float] = []
        self.peak = 0
        self.peak_per_host = 0
        self.held: frozenset[str] = frozenset()
        self.gate = threading.Event()
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fetch(self, url: str, deadline_seconds: float) -> FetchedImage:
        host = url.split("/")[2]
        with self._lock:
            self.calls.append(url)
            self.deadlines.append(deadline_seconds)
            self._under_way[host] += 1
            self.peak = max(self.peak, self._under_way.total())
            self.peak_per_host = max(self.peak_per_host, self._under_way[host])
        try:
            if url in self.held:
                self.gate.wait(20)
            if self.latency_seconds:
                time.sleep(self.latency_seconds)
            return self._outcome(url)
        finally:
            with self._lock:
                self._under_way[host] -= 1

    def _outcome(self, url: str) -> FetchedImage:
        with self._lock:
            script = self.by_url.get(url, [self.default])
            outcome = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class HeldClock:
    """A clock that only `sleep` moves; `sleeps` lists every wait."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.sleeps: list[float] = []
        self._jitter = jitter
        self._lock = threading.Lock()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: EPOCH + timedelta(seconds=self._now()), self._now, self._sleep, lambda: self._jitter)

    def _now(self) -> float:
        return sum(self.sleeps)

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
