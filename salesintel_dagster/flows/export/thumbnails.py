"""Small JPEGs of a day's images, for the eye of the person who looks at the partition."""

from __future__ import annotations

import io
from collections.abc import Iterable

from PIL import Image

from salesintel_dagster.domain.images import for_decoding
from salesintel_dagster.domain.ports import ObjectStore

THUMBNAIL_PIXELS = 96
THUMBNAIL_QUALITY = 70


def thumbnails(store: ObjectStore, keys: Iterable[str]) -> tuple[bytes, ...]:
    """Return a thumbnail (JPEG, longest side 96 px, about 3 KB) of each stored image that can be read."""
    return tuple(thumbnail for key in keys if (thumbnail := _thumbnail(store, key)))


def _thumbnail(store: ObjectStore, key: str) -> bytes | None:
    try:
        with Image.open(io.BytesIO(for_decoding(store.get(key))), formats=("JPEG", "PNG")) as image:
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            out = io.BytesIO()
            whole = image.convert("RGBA") if image.mode == "P" else image  # else Pillow warns of one with transparency
            whole.convert("RGB").save(out, "JPEG", quality=THUMBNAIL_QUALITY, comment=b"")
    except Exception:  # noqa: BLE001 - Pillow raises many kinds on a damaged file; a picture not shown fails no run
        return None
    return out.getvalue()
