"""One image from its URL into the object store: tries, waits, and one object for the same bytes.

What becomes of it is a value, `ImageOutcome`; the bytes are handed on or dropped as soon as they are stored.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from salesintel_dagster.domain.clock import Clock
from salesintel_dagster.domain.errors import ImageFailure, ImageTransient, StoreRefused, StoreUnavailable
from salesintel_dagster.domain.images import ImageKind, image_key
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.ports import FetchedImage, ImageFetcher, ObjectStore
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.flows.export.host_patience import HostPatience, host_of


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store. The digest is kept as 32 bytes: a day may hold 100,000 of these."""

    digest: bytes
    kind: ImageKind
    bytes: int
    width: int
    height: int

    def key(self, tenant_id: str) -> str:
        """Return the object's key."""
        return image_key(tenant_id, self.digest.hex(), self.kind)


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one URL: the stored image, or why there is none. `attempts` counts requests of this run."""

    status: ImageStatus
    attempts: int = 0
    image: StoredImage | None = None
    reason: str | None = None


_PACKED = struct.Struct("<BQQII")
_KINDS = (*ImageKind,)


def packed(outcome: ImageOutcome) -> bytes | None:
    """Return the outcome in a few bytes, for `unpacked`; None where no image is stored: that has a reason."""
    image = outcome.image
    if outcome.status is not ImageStatus.OK or image is None:
        return None
    kind = _KINDS.index(image.kind)
    return _PACKED.pack(kind, outcome.attempts, image.bytes, image.width, image.height) + image.digest


def unpacked(kept: bytes) -> ImageOutcome:
    """Return the outcome that `packed` gave in these bytes."""
    kind, attempts, size, width, height = _PACKED.unpack_from(kept)
    return ImageOutcome(ImageStatus.OK, attempts, StoredImage(kept[_PACKED.size :], _KINDS[kind], size, width, height))


Landed = Callable[[str, StoredImage, bytes], None]
"""Told of an image that lies in the store now: tenant, image, bytes. Must neither wait nor raise."""


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
        if self._patience.has_ended(host):
            return ImageOutcome(ImageStatus.TIMEOUT, reason=f"{host} was not asked: it kept others waiting too long")
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
                    if isinstance(failure, ImageTransient):
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
        # Half the bytes of a key, 100,000 times.
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
