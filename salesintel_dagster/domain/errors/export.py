"""What can go wrong with a source, an image or an embedding. The tree is drawn in the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salesintel_dagster.domain.errors.root import SalesIntelError

if TYPE_CHECKING:
    from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus


class SourceError(SalesIntelError):
    """The sales source failed."""


class SourceUnavailable(SourceError):
    """The source refused, dropped or stalled; a later run may succeed."""


class SourceRefused(SourceUnavailable):
    """The source does not let us in, or does not prove who it is; another try would end the same way."""


class SourceSchemaMismatch(SourceError):
    """A mapped column is missing or has a type we cannot read."""


class SourceMappingInvalid(SourceError):
    """A table, query or column name breaks the rules."""


class ImageFailure(SalesIntelError):
    """One image could not be had; `status` says why in one word."""

    def __init__(self, status: ImageStatus, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class ImageTransient(ImageFailure):
    """Worth another try, not before `retry_after_seconds` where the host named one."""

    def __init__(self, status: ImageStatus, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(status, reason)
        self.retry_after_seconds = retry_after_seconds


class ImageRefused(ImageFailure):
    """Final: another try would give the same answer."""


class EmbeddingFailure(SalesIntelError):
    """One image could not be embedded; `status` says why in one word."""

    def __init__(self, status: EmbeddingStatus, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class EmbeddingTransient(EmbeddingFailure):
    """Worth another try."""


class EmbeddingRefused(EmbeddingFailure):
    """Final for this image."""


class EmbedderUnusable(EmbeddingFailure):
    """Final for the whole run: permission, region or model is wrong. The message names the setting."""
