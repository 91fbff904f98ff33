"""What counts as an image, told from its bytes and never from its name, and where an image is kept.

Sizes are read from the header and wholeness from the end, before anything is decoded: a full decode of 200 KB costs
2.5 ms and tells no more.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from salesintel_dagster.domain.errors import ImageRefused
from salesintel_dagster.domain.jpeg_filling import without_filling
from salesintel_dagster.domain.outcome import ImageStatus
from salesintel_dagster.domain.png import CHUNK_OVERHEAD, PNG_MAGIC, without_texts

JPEG_MAGIC = b"\xff\xd8\xff"
JPEG_END = b"\xff\xd9"
JPEG_SCAN = b"\xff\xda"
MAX_SIDE_PIXELS = 65_535
"""A JPEG's own limit. Each row costs Pillow memory too: to shrink a PNG of 1 x 40,000,000, 78 KB, took 1.3 GB."""
MAX_SCANS = 64
"""An ordinary progressive JPEG has about ten; each of a hostile one's thousands costs a pass over all its pixels."""
USUAL_SCANS = 16
MAX_SCANNED_PIXELS = 640_000_000
"""More than the usual scans only within these: 40 megapixels took 2.9 s in 64 scans, and 1.2 s in 12 as anybody's."""
MAX_SEGMENTS = 10_000
"""A 10 MB colour profile takes 160 segments; ten million filling bytes or 800,000 chunks would cost seconds."""
MAX_PNG_CHUNKS = 40_000
"""10 MB of pixels in pieces of 512 bytes are 20,000; each of a hostile one's million costs the decoder 10 us."""

MAX_JPEG_TABLES_BYTES = 128 * 1024
"""Frame, tables and a small preview before the pixels, of 1 KB as a rule: 10 MB of them cost Pillow a second."""
MAX_PROFILES = 16
"""Colour profiles of a PNG: each of 1 KB is 1 MB for Pillow, and 63 of them fit in 60 KB of a file."""

_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_TAKEN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive with Huffman codes, as browsers show them. A decoder of arithmetic codes makes up
what is missing: 62 KB in 54 scans took it 299 s."""
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SEQUENTIAL = frozenset({0xC0, 0xC1})
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Anything but pixels, and what stands between them."""
_JPEG_LOWEST_WITH_LENGTH = 0xC0
_JPEG_SCAN_MARKER = 0xDA
_JPEG_END_MARKER = 0xD9
_JPEG_METADATA = frozenset(range(0xE0, 0xF0)) - {0xE0, 0xEE}
"""Without JFIF and Adobe, which say what the colours mean."""
_JPEG_COMMENT = 0xFE
_JPEG_EXIF, _EXIF = 0xE1, b"Exif\0\0"
_PNG_PROFILE = b"iCCP"


class ImageKind(StrEnum):
    """The two kinds that the embedding model takes; the value is the content type."""

    JPEG = "image/jpeg"
    PNG = "image/png"

    @property
    def extension(self) -> str:
        """The ending of an image's key."""
        return "jpg" if self is ImageKind.JPEG else "png"

    @classmethod
    def of_key(cls, key: str) -> ImageKind:
        """Return the kind that a key made by `image_key` tells."""
        return cls.PNG if key.endswith(".png") else cls.JPEG


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the first bytes say; `body_at` is the offset of the first pixel data."""

    kind: ImageKind
    width: int
    height: int
    body_at: int


def image_key(tenant_id: str, sha256: str, kind: ImageKind) -> str:
    """Return the object key of an image: by its content, so that no id or URL of a stranger gets into a path."""
    return f"images/smartgo/{tenant_id}/{sha256[:2]}/{sha256}.{kind.extension}"


def read_header(data: bytes) -> ImageHeader:
    """Read kind and size. Raises ImageRefused NOT_AN_IMAGE, or TRUNCATED where the header itself is cut."""
    try:
        if data.startswith(JPEG_MAGIC):
            return _jpeg_header(data)
        if data.startswith(PNG_MAGIC):
            return _png_header(data)
    except (struct.error, IndexError):
        raise _cut_in_header() from None
    raise _not_an_image("the first bytes are neither a JPEG's nor a PNG's")


def is_whole(data: bytes, header: ImageHeader) -> bool:
    """Tell whether the image is all there.

    A JPEG is whole when its end marker follows its pixel data, within which the marker cannot occur; what phones
    append after it does not matter. A PNG is whole when its chunks lead to IEND. A test compares both with a full
    decode, which tells no more. Raises ImageRefused for a PNG in more pieces than any picture has.
    """
    if header.kind is ImageKind.PNG:
        return _png_is_whole(data)
    return data.rfind(JPEG_END, header.body_at) >= 0


def for_decoding(data: bytes) -> bytes:
    """Return what a decoder needs: a JPEG without metadata and filling, a PNG without texts. Raises ImageRefused.

    Pillow unpacks metadata when it opens a file: 10 MB of Exif segments took 19 s, and 64 KB of wrong ones are 5,000
    warnings.
    """
    if not data.startswith(JPEG_MAGIC):
        return without_texts(data, MAX_PNG_CHUNKS)
    kept = [data[:2]]
    try:
        for marker, at, end in _jpeg_segments(data):
            if marker not in _JPEG_METADATA:
                kept.append(without_filling(data[at:]) if at == end else data[at:end])
    except (struct.error, IndexError):
        raise _cut_in_header() from None
    return b"".join(kept)


def jpeg_exif(data: bytes) -> bytes | None:
    """Return the first Exif segment of a JPEG, which says how it is turned; None where there is none."""
    if data.startswith(JPEG_MAGIC):
        for marker, at, end in _jpeg_segments(data):
            if marker == _JPEG_EXIF and data.startswith(_EXIF, at + 4):
                return data[at + 4 : end]
    return None


def _not_an_image(rule: str) -> ImageRefused:
    return ImageRefused(ImageStatus.NOT_AN_IMAGE, rule)


def _cut_in_header() -> ImageRefused:
    return ImageRefused(ImageStatus.TRUNCATED, "the image ends within its header")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give marker, start and end of each segment before the pixels, and at last that of the scan or of the end."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        if at < 0:
            raise IndexError
        marker = data[at + 1]
        if marker in {0x00, 0xFF} or marker in _JPEG_WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004 - 0xFF before a marker is filling
            continue
        if marker in {_JPEG_SCAN_MARKER, _JPEG_END_MARKER}:
            yield marker, at, at
            return
        if marker in _JPEG_START_OF_FRAME and marker not in _JPEG_TAKEN_FRAMES:
            raise _not_an_image("a JPEG of arithmetic or lossless coding")
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + max(length, 2)
        yield marker, at, end
        at = end
    raise _not_an_image(f"a JPEG with more than {MAX_SEGMENTS} segments before its pixels")


def _jpeg_header(data: bytes) -> ImageHeader:
    size: tuple[int, int] | None = None
    tables, colours_of_one_scan = 0, None
    for marker, at, end in _jpeg_segments(data):
        if marker == _JPEG_SCAN_MARKER:
            return _jpeg_at_scan(data, at, size, has_one_scan=data[at + 4] == colours_of_one_scan)
        tables += 0 if marker in _JPEG_METADATA or marker == _JPEG_COMMENT else end - at
        if tables > MAX_JPEG_TABLES_BYTES:
            raise _not_an_image(f"a JPEG with more than {MAX_JPEG_TABLES_BYTES} bytes of tables")
        if marker in _JPEG_START_OF_FRAME:
            if size is not None:
                raise _not_an_image("a JPEG with two frames")
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
            colours_of_one_scan = data[at + 9] if marker in _JPEG_SEQUENTIAL else None
    raise _not_an_image("a JPEG without pixel data")


def _jpeg_at_scan(data: bytes, at: int, size: tuple[int, int] | None, *, has_one_scan: bool) -> ImageHeader:
    """Return the header; a decoder reads what has all its colours in one sequential scan to the end of that one."""
    if size is None or 0 in size:
        raise _not_an_image("a JPEG without a size")
    most = min(MAX_SCANS, max(USUAL_SCANS, MAX_SCANNED_PIXELS // (size[0] * size[1])))
    if not has_one_scan and _has_too_many_scans(data, at, most):
        raise _not_an_image(f"a JPEG with more than {most} scans")
    return ImageHeader(ImageKind.JPEG, *size, at)


def _has_too_many_scans(data: bytes, at: int, most: int) -> bool:
    """Count the scans that a decoder comes to: in 5 MB of film behind a picture are 80 that only look like one."""
    scans = 0
    for _ in range(MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None or found[0] == JPEG_END:
            return False
        scans += found[0] == JPEG_SCAN
        if scans > most:
            return True
        at = found.end()
        if found[0][1] >= _JPEG_LOWEST_WITH_LENGTH:
            at += max(int.from_bytes(data[at : at + 2]), 2)
    return True


def _png_header(data: bytes) -> ImageHeader:
    length, name, width, height = struct.unpack_from(">I4sII", data, len(PNG_MAGIC))
    if (length, name) != (13, b"IHDR") or 0 in {width, height}:
        raise _not_an_image("a PNG without a size")
    at = len(PNG_MAGIC) + length + CHUNK_OVERHEAD
    profiles = 0
    for _ in range(MAX_SEGMENTS):
        length, name = struct.unpack_from(">I4s", data, at)
        profiles += name == _PNG_PROFILE
        if profiles > MAX_PROFILES:
            break
        if name == b"IDAT":
            return ImageHeader(ImageKind.PNG, width, height, at)
        at += length + CHUNK_OVERHEAD
    raise _not_an_image(f"a PNG with more than {MAX_SEGMENTS} chunks or {MAX_PROFILES} profiles before its pixels")


def _png_is_whole(data: bytes) -> bool:
    at = len(PNG_MAGIC)
    profiles = 0
    for _ in range(MAX_PNG_CHUNKS):
        if at + CHUNK_OVERHEAD > len(data):
            return False
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        at += length + CHUNK_OVERHEAD
        profiles += name == _PNG_PROFILE
        if profiles > MAX_PROFILES:
            break
        if name == b"IEND":
            return at <= len(data)
    raise _not_an_image(f"a PNG with more than {MAX_PNG_CHUNKS} chunks or {MAX_PROFILES} profiles")
