"""Every error the platform raises on purpose, as one small tree.

Adapters translate a vendor's error once, into one of these; `defs/` translates them to Dagster once.
No error text carries a secret, a row's content or a URL with its query.

    SalesIntelError
    |-- SettingInvalid               a setting is unknown, of the wrong type or out of range
    |-- SourceError                  the sales source
    |   |-- SourceUnavailable        refused, dropped, stalled: a later run may succeed
    |   |-- SourceSchemaMismatch     a mapped column is missing or of a type we cannot read
    |   `-- SourceMappingInvalid     table, query or column names break the rules
    |-- ImageFailure                 one image, one reason (status)
    |   |-- ImageTransient           worth another try
    |   `-- ImageRefused             final
    |-- EmbeddingFailure             one image could not be embedded (status)
    |   |-- EmbeddingTransient       worth another try
    |   |-- EmbeddingRefused         final for this image
    |   `-- EmbedderUnusable         final for the whole run: permission, region, model
    |-- StoreError                   the object store
    |   |-- KeyInvalid               a key breaks the rules; nothing was asked of the store
    |   |-- ObjectMissing
    |   |-- StoreUnavailable
    |   `-- StagesMisaligned         the staged data sets of a day do not speak of the same sales
    |-- TableError                   the Iceberg table
    |   |-- CommitConflict           another writer was first, more often than we retry
    |   |-- TableUnavailable         catalog or storage out of reach within the deadline
    |   |-- EmptyReplacement         zero rows would replace a day that has rows
    |   |-- DuplicateKeys            one frame holds a key twice
    |   |-- OutsideScope             a row is of another day, tenant or source than the one being replaced
    |   |-- SchemaDrift              the table's schema or partition spec is not ours
    |   |-- UpkeepRefused            upkeep met something it cannot judge; it changed nothing
    |   `-- QueryRefused             SQL that is not one SELECT over our tables, or does not run
    |-- ProgressUnavailable          the progress ledger cannot be written (never fails an export)
    |-- MetricsNotSent               metrics did not arrive (never fails an export)
    |-- AlertNotSent                 an alert did not arrive, or nobody said that it did; it is sent again
    |-- DeployFailed                 the infrastructure template could not be deployed; names the resource and why
    |-- CheckBlocked                 a blocking asset check failed
    `-- WorldError                   the embedded world cannot start or is not running
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from salesintel_dagster.domain.outcome import EmbeddingStatus, ImageStatus


class SalesIntelError(Exception):
    """Root of the tree: a sentence for a person, naming the value and the rule."""


class SettingInvalid(SalesIntelError):
    """A setting is unknown, of the wrong type or out of range."""


class SourceError(SalesIntelError):
    """The sales source failed."""


class SourceUnavailable(SourceError):
    """The source refused, dropped or stalled; a later run may succeed."""


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


class StoreError(SalesIntelError):
    """The object store failed."""


class KeyInvalid(StoreError):
    """A key breaks the rules; nothing was asked of the store."""


class ObjectMissing(StoreError):
    """No object under that key."""


class StoreUnavailable(StoreError):
    """The object store did not answer within its retries."""


class StagesMisaligned(StoreError):
    """The staged data sets of a day do not speak of the same sales; the message names the one to make again."""


class TableError(SalesIntelError):
    """The Iceberg table refused."""


class CommitConflict(TableError):
    """Another writer was first, more often than we retry."""


class TableUnavailable(TableError):
    """Catalog or storage out of reach within the deadline; nothing was committed."""


class EmptyReplacement(TableError):
    """Zero rows would replace a day that has rows, and `allow_empty` was not given."""


class DuplicateKeys(TableError):
    """One frame holds a (tenant_id, sale_id) twice."""


class OutsideScope(TableError):
    """A row is of another day, tenant or source than the one being replaced."""


class SchemaDrift(TableError):
    """The table's schema or partition spec is not the one this version writes."""


class UpkeepRefused(TableError):
    """Upkeep met something it cannot judge, and left it as it was; the message says what to look at."""


class QueryRefused(TableError):
    """The SQL is not one SELECT over our tables, or does not run."""


class ProgressUnavailable(SalesIntelError):
    """The progress ledger cannot be written. An export goes on without it."""


class MetricsNotSent(SalesIntelError):
    """Metrics did not arrive at their sink. An export goes on without them."""


class AlertNotSent(SalesIntelError):
    """An alert did not arrive at its sink, or the sink did not say so in time. It is sent again later."""


class DeployFailed(SalesIntelError):
    """The infrastructure template could not be deployed; the message names the resource and its reason."""


class CheckBlocked(SalesIntelError):
    """A blocking asset check failed: what follows it was not run."""


class WorldError(SalesIntelError):
    """The embedded world cannot start, or is not running where it must."""
