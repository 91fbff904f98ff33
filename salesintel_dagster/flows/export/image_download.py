"""One image from its URL into the object store: tries, waits, and one object for the same bytes.

What becomes of it is a value, `ImageOutcome`; the bytes are handed on or dropped as soon as they are stored.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ImageFailure, ImageTransient, StoreRefused, StoreUnavailable
from salesintel_dagster.domain.images import ImageKind
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher, ObjectStore
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.host_patience import HostPatience, host_of
from salesintel_dagster.flows.export.image_outcomes import ImageOutcome, StoredImage

Landed = Callable[[str, StoredImage, bytes], None]
"""Told of an image that lies in the store now: tenant, image, bytes. Must neither wait nor raise."""

MAX_KEYS_REMEMBERED = 10_000
"""Objects known to be stored, 1 MB. Beyond that all are forgotten: a second put of the same bytes does no harm."""


class ImageDownload:
    """Fetches and stores images; safe to share between threads."""

    def __init__(  # noqa: PLR0913, PLR0917 - the port list of a stage's part, as `fetch_images` makes it
        self,
        fetcher: ImageFetcher,
        store: ObjectStore,
        retry: RetryPolicy,
        patience: HostPatience,
        clock: Clock,
        landed: Landed | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._retry = retry
        self._clock = clock
        self._landed = landed
        self._patience = patience
        self._stored: set[bytes] = set()
        self._storing: set[str] = set()
        self._changed = threading.Condition()
        self._stopped = False

    def stop(self) -> None:
        """Begin no further try: nobody waits for the outcome any more."""
        self._stopped = True

    def outcome_of(self, tenant_id: str, url: str) -> ImageOutcome:
        """Try until there is an image, a final answer, or no time left; the caller's slot is held all the while."""
        host = host_of(url)
        if why := self._patience.ended(host):
            return ImageOutcome(ImageStatus.TIMEOUT, reason=f"{host} was not asked: {why}")
        started = self._clock.monotonic()
        attempts = 0
        while True:
            attempts += 1
            try:
                remaining = self._retry.deadline_seconds - (self._clock.monotonic() - started)
                fetched = self._fetcher.fetch(url, remaining)
                self._patience.answered(host, self._clock.monotonic() - started)
                return self._kept(tenant_id, fetched, attempts)
            except ImageFailure as failure:
                if not self._waited(failure, attempts, started):
                    self._patience.lost(host, self._clock.monotonic() - started)
                    return ImageOutcome(failure.status, attempts, reason=failure.reason)

    def _waited(self, failure: ImageFailure | StoreUnavailable, attempts: int, started: float) -> bool:
        """Sleep until the next try; False where there is none."""
        final = isinstance(failure, StoreRefused) or not isinstance(failure, ImageTransient | StoreUnavailable)
        if self._stopped or final:
            return False
        after = failure.retry_after_seconds if isinstance(failure, ImageTransient) else None
        elapsed = self._clock.monotonic() - started
        wait = self._retry.wait_seconds(attempts, elapsed, self._clock.jitter(), after)
        if wait is None:
            return False
        self._clock.sleep(wait)
        return not self._stopped

    def _kept(self, tenant_id: str, fetched: FetchedImage, attempts: int) -> ImageOutcome:
        image = StoredImage(
            hashlib.sha256(fetched.data).digest(),
            ImageKind(fetched.content_type),
            len(fetched.data),
            fetched.width,
            fetched.height,
        )
        try:
            self._put_once(image.key(tenant_id), fetched)
        except StoreUnavailable as error:
            return ImageOutcome(ImageStatus.STORE_FAILED, attempts, reason=str(error))
        if self._landed is not None:
            self._landed(tenant_id, image, fetched.data)
        return ImageOutcome(ImageStatus.OK, attempts, image)

    def _put_once(self, key: str, fetched: FetchedImage) -> None:
        """Put the object unless this run already has; a second thread with the same bytes waits for the first."""
        short = hashlib.blake2b(key.encode(), digest_size=16).digest()
        with self._changed:
            while key in self._storing:
                self._changed.wait()
            if short in self._stored:
                return
            self._storing.add(key)
        stored = False
        try:
            self._put(key, fetched)
            stored = True
        finally:
            with self._changed:
                self._storing.discard(key)
                if stored:
                    if len(self._stored) == MAX_KEYS_REMEMBERED:
                        self._stored.clear()
                    self._stored.add(short)
                self._changed.notify_all()

    def _put(self, key: str, fetched: FetchedImage) -> None:
        started = self._clock.monotonic()
        attempts = 0
        while True:
            attempts += 1
            try:
                self._store.put(key, fetched.data, fetched.content_type)
            except StoreUnavailable as failure:
                if not self._waited(failure, attempts, started):
                    raise
            else:
                return
