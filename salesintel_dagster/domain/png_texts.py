"""A PNG without its texts, which no decoder needs.

Pillow unpacks them when it opens a file, and refuses a picture for one of more than 1 MB: editors keep its whole
history there, as packed XMP.
"""

from __future__ import annotations

_MAGIC_BYTES = 8
_CHUNK_OVERHEAD = 12
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def without_texts(png: bytes, max_chunks: int) -> bytes:
    """Return the PNG, or the beginning of one, with the texts of its first chunks cut out."""
    kept, kept_to, at = [], 0, _MAGIC_BYTES
    for _ in range(max_chunks):
        length, name = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        if name in {b"", b"IEND"}:
            break
        end = at + length + _CHUNK_OVERHEAD
        if name in _TEXTS:
            kept.append(png[kept_to:at])
            kept_to = end
        at = end
    return b"".join([*kept, png[kept_to:]])
