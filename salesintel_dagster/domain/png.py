"""A PNG as its chunks: without its texts, which no decoder needs, or made of pixels.

Pillow unpacks texts when it opens a file, and refuses a picture for one of more than 1 MB: editors keep its whole
history there, as packed XMP.
"""

from __future__ import annotations

import struct
import zlib

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
CHUNK_OVERHEAD = 12
"""Bytes of a chunk beside its data: length, name, checksum."""
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def without_texts(png: bytes, max_chunks: int) -> bytes:
    """Return the PNG, or the beginning of one, with the texts of its first chunks cut out."""
    kept, kept_to, at = [], 0, len(PNG_MAGIC)
    for _ in range(max_chunks):
        length, name = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        if name in {b"", b"IEND"}:
            break
        end = at + length + CHUNK_OVERHEAD
        if name in _TEXTS:
            kept.append(png[kept_to:at])
            kept_to = end
        at = end
    return b"".join([*kept, png[kept_to:]])


def square_png(side_pixels: int, rows: bytes) -> bytes:
    """Return a PNG of 8-bit RGB that says it is so high and wide; each of its rows is a zero and its pixels."""
    header = struct.pack(">IIBBBBB", side_pixels, side_pixels, 8, 2, 0, 0, 0)
    return PNG_MAGIC + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
