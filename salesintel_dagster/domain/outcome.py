"""What became of one image and one embedding, and how many of each: closed vocabularies and tallies.

Partial success is a value here, never a log line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ImageStatus(StrEnum):
    """Why a sale has its image, or has not."""

    OK = "ok"
    NO_URL = "NO_URL"
    REFUSED_URL = "REFUSED_URL"
    GONE = "GONE"
    FORBIDDEN = "FORBIDDEN"
    HTTP_ERROR = "HTTP_ERROR"
    SERVER_ERROR = "SERVER_ERROR"
    THROTTLED = "THROTTLED"
    TIMEOUT = "TIMEOUT"
    CONNECTION_ERROR = "CONNECTION_ERROR"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    NOT_AN_IMAGE = "NOT_AN_IMAGE"
    TRUNCATED = "TRUNCATED"
    STORE_FAILED = "STORE_FAILED"


class EmbeddingStatus(StrEnum):
    """Why a sale has its vector, or has not."""

    OK = "ok"
    NO_IMAGE = "NO_IMAGE"
    NOT_SENT = "NOT_SENT"
    TOO_LARGE_FOR_MODEL = "TOO_LARGE_FOR_MODEL"
    UNREADABLE_IMAGE = "UNREADABLE_IMAGE"
    REFUSED_BY_MODEL = "REFUSED_BY_MODEL"
    INVALID_VECTOR = "INVALID_VECTOR"
    THROTTLED = "THROTTLED"
    MODEL_ERROR = "MODEL_ERROR"
    MODEL_UNUSABLE = "MODEL_UNUSABLE"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    BREAKER_OPEN = "BREAKER_OPEN"
    STORE_FAILED = "STORE_FAILED"
    REPAIRED = "REPAIRED"
    """The row came back from the sales table, which keeps no vector; its event, coming again, brings it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of each status; the counts always add up to `total`."""

    by_status: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counter[str]) -> Tally:
        """Freeze a running count, most frequent first."""
        return cls(dict(counts.most_common()))

    @property
    def total(self) -> int:
        """All that were looked at."""
        return sum(self.by_status.values())

    @property
    def ok(self) -> int:
        """Those that ended well."""
        return self.by_status.get("ok", 0)

    @property
    def failed(self) -> int:
        """Those that did not."""
        return self.total - self.ok

    @property
    def failures(self) -> dict[str, int]:
        """Failed ones by reason."""
        return {status: n for status, n in self.by_status.items() if status != "ok"}
