"""What tells one state of a source's day from another, without its rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

FINGERPRINT_PROPERTY = "salesintel.source-fingerprint"
"""Under this name a reading's fingerprint lies in the staged raw file and in the day's Iceberg snapshot."""

DAY_PROPERTY = "salesintel.day"
SOURCE_PROPERTY = "salesintel.source"

_TEXT = re.compile(r"(\d{1,18}):([0-9a-f]{32})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SourceFingerprint:
    """Row count and checksum of a day's rows, over the mapped columns and in no order; `checksum` is 32 hex digits.

    Comparable only with another one of the same source: how a checksum is made is the source's own business.
    """

    rows: int
    checksum: str

    @property
    def text(self) -> str:
        """The fingerprint as a property keeps it."""
        return f"{self.rows}:{self.checksum}"

    @classmethod
    def parse(cls, text: str | None) -> SourceFingerprint | None:
        """Return the fingerprint in `text`, or None where it holds none of ours: then nothing is known."""
        found = _TEXT.fullmatch(text or "")
        return None if found is None else cls(int(found[1]), found[2])
