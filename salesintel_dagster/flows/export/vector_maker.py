"""One image's vector: from the cache, else by a paid call that is retried, counted, and kept before anything else.

A worker puts the vector into the cache while it still holds its slot. So a process that dies repeats at most as
many paid calls as there are slots, whatever the moment.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.embedding import VectorBytes, VectorInvalid, checked_vector
from salesintel_dagster.domain.errors import (
    EmbedderUnusable,
    EmbeddingFailure,
    EmbeddingRefused,
    EmbeddingTransient,
    ObjectMissing,
    StoreError,
)
from salesintel_dagster.domain.outcome import EmbeddingStatus
from salesintel_dagster.domain.ports import Embedder, ObjectStore
from salesintel_dagster.domain.proof_picture import proof_picture
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.breaker import Breaker
from salesintel_dagster.flows.export.concurrency import CallBudget, Slots

VECTOR_TYPE = "application/octet-stream"

THROTTLE_PATIENCE_SECONDS = 180.0
"""Quotas are per minute: three without one good call mean that this one will not come back soon (a daily one)."""

FEW_KEYS, MANY_KEYS = 1_000, 5_000
"""One request lists 1,000 keys, 5,000 of them are 1 MB: what a look at the cache may cost, whatever the day."""

UNBILLED = frozenset(
    {
        EmbeddingStatus.THROTTLED,
        EmbeddingStatus.TOO_LARGE_FOR_MODEL,
        EmbeddingStatus.UNREADABLE_IMAGE,
        EmbeddingStatus.MODEL_UNUSABLE,
    }
)
"""What was refused before the model saw it. A call that timed out or gave a bad vector may be on the bill."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """`concurrency` calls at once, `retry` of one image; `budget` and `breaker` are the run's, its days share them."""

    concurrency: int
    budget: CallBudget
    retry: RetryPolicy
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True, slots=True)
class Calls:
    """What the vectors cost so far. `unkept` were paid for and could not be put into the cache."""

    paid: int = 0
    cache_hits: int = 0
    throttles: int = 0
    unkept: int = 0


class VectorMaker:
    """Makes vectors for many workers at once. Once the run's breaker is open, nobody calls the model again."""

    def __init__(self, embedder: Embedder, store: ObjectStore, limits: EmbeddingLimits, clock: Clock) -> None:
        self._embedder = embedder
        self._spec = embedder.spec
        self._store = store
        self._budget = limits.budget
        self._breaker = limits.breaker
        self._retry = limits.retry
        patience = max(limits.retry.deadline_seconds, THROTTLE_PATIENCE_SECONDS)
        self._throttle_retry = replace(limits.retry, deadline_seconds=patience)
        self._slots = Slots(limits.concurrency)
        self._clock = clock
        self._calls = Calls()
        self._lock = threading.Lock()
        self._last_good = float("-inf")
        self._all_keys: frozenset[str] | None = None
        self._died = False

    @property
    def calls(self) -> Calls:
        """What was counted until now."""
        return self._calls

    @property
    def halted(self) -> str | None:
        """Why no call is made any more, if so."""
        return None if self._breaker.opened is None else str(self._breaker.opened)

    def make(self, image_sha256: str, image_key: str, image: bytes | None = None) -> VectorBytes:
        """Return the checked vector of the image, which is read from the store unless it is given.

        Raises EmbeddingFailure and nothing else for what the world does.
        """
        cached = self._cached(image_sha256)
        if cached is not None:
            self._count(cache_hits=1)
            return cached
        self._refuse_if_over()
        self._breaker.ask_first(self._embedder.check)
        self._refuse_if_over()
        picture = self._image(image_key) if image is None else image
        with self._slots:
            vector = self._judged(picture)
            self._keep(image_sha256, vector)
        return vector

    def look_round(self, images: int) -> None:
        """List the cache if it is about as small as the day: 1,000 keys a request instead of a miss an image.

        Measured with boto3: a miss is 1.3 ms of CPU. A cache that is larger is asked image by image.
        """
        most = max(FEW_KEYS, min(MANY_KEYS, 2 * images))
        with suppress(StoreError):
            keys = list(islice(self._store.keys(self._spec.cache_prefix), most + 1))
            self._all_keys = frozenset(keys) if len(keys) <= most else None

    def _cached(self, image_sha256: str) -> VectorBytes | None:
        key = self._spec.cache_key(image_sha256)
        if self._all_keys is not None and key not in self._all_keys:
            return None
        try:
            found = self._store.get(key)
        except ObjectMissing:
            return None
        except StoreError as error:
            # Asking the model instead would pay again for all that the cache holds.
            raise EmbeddingRefused(EmbeddingStatus.STORE_FAILED, f"vector cache: {error}") from error
        with suppress(VectorInvalid):
            return checked_vector(VectorBytes(found), self._spec.dimension)
        return None

    def _image(self, image_key: str) -> bytes:
        try:
            return self._store.get(image_key)
        except StoreError as error:
            raise EmbeddingRefused(EmbeddingStatus.STORE_FAILED, f"image: {error}") from error

    def _keep(self, image_sha256: str, vector: VectorBytes) -> None:
        try:
            self._store.put(self._spec.cache_key(image_sha256), vector, VECTOR_TYPE)
        except StoreError:
            # The day's own file will hold the vector; only a crash before that would pay for it again.
            self._count(unkept=1)

    def _judged(self, image: bytes) -> VectorBytes:
        """Call until there is a vector or a reason; any other error ends the day."""
        try:
            return self._told(image)
        except EmbeddingFailure:
            raise
        except BaseException:  # told while the slot is held, so that nobody takes it to call
            self._died = True
            raise

    def _told(self, image: bytes) -> VectorBytes:
        """Tell the breaker what came of the image."""
        try:
            vector = self._called(image)
        except EmbeddingFailure as failure:
            self._breaker.failed(failure, lambda: self._called(proof_picture()))
            raise
        self._breaker.succeeded()
        return vector

    def _called(self, image: bytes) -> VectorBytes:
        started = self._clock.monotonic()
        tries = throttles = 0
        while True:
            began = self._slots.call_begins()
            try:
                return self._paid_call(image)
            except EmbeddingTransient as failure:
                elapsed = self._clock.monotonic() - started
                if failure.status is EmbeddingStatus.THROTTLED:
                    throttles += 1
                    self._slots.throttled(began)
                    self._count(throttles=1)
                    wait = self._throttle_wait(throttles, started)
                    if wait is None:
                        self._breaker.open(failure)
                else:
                    tries += 1
                    wait = self._retry.wait_seconds(tries, elapsed, self._clock.jitter())
                if wait is None:
                    raise
            self._clock.sleep(wait)

    def _throttle_wait(self, throttles: int, started: float) -> float | None:
        """Return the wait after a refusal by quota: as long as anyone gets through, nobody gives up."""
        waiting = self._clock.monotonic() - max(self._last_good, started)
        steps = min(throttles, max(self._retry.retries, 1))
        return self._throttle_retry.wait_seconds(steps, waiting, self._clock.jitter())

    def _paid_call(self, image: bytes) -> VectorBytes:
        self._refuse_if_over()
        if not self._budget.take():
            raise self._over_budget()
        try:
            vector = self._embedder.embed(image)
        except EmbeddingFailure as failure:
            if failure.status in UNBILLED:
                self._budget.give_back()
            else:
                self._count(paid=1)
            if isinstance(failure, EmbedderUnusable):
                self._breaker.open(failure)
            raise
        self._count(paid=1)
        self._last_good = self._clock.monotonic()
        self._slots.succeeded()
        return vector

    def _refuse_if_over(self) -> None:
        if self._died:
            raise EmbeddingRefused(EmbeddingStatus.MODEL_UNUSABLE, "an unexpected error has ended the day")
        opened = self._breaker.opened
        if opened is not None:
            raise EmbeddingRefused(opened.status, opened.reason)
        if self._budget.left <= 0:
            raise self._over_budget()

    def _over_budget(self) -> EmbeddingRefused:
        return EmbeddingRefused(
            EmbeddingStatus.BUDGET_EXHAUSTED, f"{self._budget.spent_by} budget of paid calls is used up"
        )

    def _count(self, *, paid: int = 0, cache_hits: int = 0, throttles: int = 0, unkept: int = 0) -> None:
        with self._lock:
            now = self._calls
            self._calls = Calls(
                now.paid + paid, now.cache_hits + cache_hits, now.throttles + throttles, now.unkept + unkept
            )
