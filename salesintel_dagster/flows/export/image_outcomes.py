"""What became of the images of a day, by tenant and URL: on disk in a few bytes each, so that memory stays flat."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from salesintel_dagster.domain.images import ImageKind, image_key
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.flows.export.day_index import DayIndex, index_name

UrlId = tuple[str, bytes]
"""Tenant and SHA-256 of the URL."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store; `digest` is the SHA-256 of its bytes."""

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


class OutcomeIndex:
    """The outcomes of a day's URLs. As with `DayIndex`, the caller holds the lock."""

    def __init__(self) -> None:
        self._index = DayIndex()
        self.count = 0

    def close(self) -> None:
        """Forget them."""
        self._index.close()

    def put(self, url: UrlId, outcome: ImageOutcome) -> None:
        """Keep the outcome of a URL that has none yet."""
        self.count += self._index.add(_name(url), _packed(outcome))

    def get(self, url: UrlId) -> ImageOutcome | None:
        """Return the outcome of the URL, if there is one."""
        kept = self._index.get(_name(url))
        return None if kept is None else _unpacked(kept)


def _name(url: UrlId) -> bytes:
    tenant_id, digest = url
    return digest + index_name(tenant_id)


_HEAD = struct.Struct("<BBQQII")
"""Status, kind, attempts, bytes, width, height; the digest follows, or the reason."""
_STATUSES = (*ImageStatus,)
_KINDS = (None, *ImageKind)


def _packed(outcome: ImageOutcome) -> bytes:
    status, image = _STATUSES.index(outcome.status), outcome.image
    if image is None:
        return _HEAD.pack(status, 0, outcome.attempts, 0, 0, 0) + (outcome.reason or "").encode()
    facts = (_KINDS.index(image.kind), outcome.attempts, image.bytes, image.width, image.height)
    return _HEAD.pack(status, *facts) + image.digest


def _unpacked(kept: bytes) -> ImageOutcome:
    code, kind_code, attempts, size, width, height = _HEAD.unpack_from(kept)
    kind, rest = _KINDS[kind_code], kept[_HEAD.size :]
    if kind is None:
        return ImageOutcome(_STATUSES[code], attempts, reason=rest.decode() or None)
    return ImageOutcome(_STATUSES[code], attempts, StoredImage(rest, kind, size, width, height))
