"""Every error the platform raises on purpose, as one small tree.

Adapters translate a vendor's error once, into one of these; `defs/` translates them to Dagster once.
No error text carries a secret, a row's content or a URL with its query.

    SalesIntelError
    |-- SettingInvalid               a setting is unknown, of the wrong type or out of range
    |-- SourceError                  the sales source
    |   |-- SourceUnavailable        refused, dropped, stalled: a later run may succeed
    |   |   `-- SourceRefused        user, password, token or certificate: trying again at once is in vain
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
    |   |   `-- StoreRefused         permission: trying again at once is in vain
    |   `-- StagesMisaligned         the staged data sets of a day do not speak of the same sales
    |-- TableError                   the Iceberg table
    |   |-- CommitConflict           another writer was first, more often than we retry
    |   |-- TableUnavailable         catalog or storage out of reach within the deadline
    |   |   `-- TableRefused         permission: trying again at once is in vain
    |   |-- EmptyReplacement         zero rows would replace a day that has rows
    |   |-- DuplicateKeys            one frame holds a key twice
    |   |-- OutsideScope             a row is of another day, tenant or source than the one being replaced
    |   |-- SchemaDrift              the table's schema or partition spec is not ours
    |   |-- RowsRefused              rows cannot be written because of what they hold
    |   |-- UpkeepRefused            upkeep met something it cannot judge; it changed nothing
    |   `-- QueryRefused             SQL that is not one SELECT over our tables, or does not run
    |-- SalesStoreError              the sales table in DynamoDB
    |   |-- SaleRefused              a value breaks a rule; names field, value and rule, nothing was written
    |   |-- TenantMismatch           the sale is another tenant's than the caller
    |   |-- SaleNotFound             no such sale (any more) in the caller's tenant
    |   |-- SaleUnreadable           an item in the table is none of ours; names its key
    |   |-- RevisionConflict         somebody changed the sale since it was read; read it again
    |   |-- SalesUnavailable         throttled or out of reach beyond the retries; an answer is whole or this
    |   `-- BatchUnfinished          some of a batch is not written; names the rest
    |-- QueueUnavailable             a queue did not answer, or refused, beyond the retries; its messages come again
    |-- EventBusUnavailable          the event bus did not answer; any of the batch may have been taken
    |-- MessageNotFound              a queue holds no message of that id, or somebody else has it in hand
    |-- ReceiptsUnavailable          the receipts table did not answer beyond the retries
    |-- ProgressUnavailable          the progress ledger cannot be written (never fails an export)
    |-- CatalogInvalid               a catalog, or an id given with it, breaks the rules; nothing was submitted
    |-- ProviderFailure              the enrichment provider gave no facts (reason, token level where it told)
    |   |-- ProviderThrottled        no tokens: ask again when the bucket has refilled
    |   |-- ProviderTransient        down, slow, or an answer that cannot be read: worth another try
    |   |-- ProviderRefused          final for this request
    |   `-- ProviderUnusable         final for every request: key, payment, permission
    |-- LedgerUnavailable            the enrichment status table does not answer
    |-- MetricsNotSent               metrics did not arrive (never fails an export)
    |-- AlertNotSent                 an alert did not arrive, or nobody said that it did; it is sent again
    |-- AwsRefused                   AWS said no to a question of `salesintel doctor`; carries its code
    |-- DeployFailed                 the infrastructure template could not be deployed; names the resource and why
    |-- CheckBlocked                 a blocking asset check failed
    `-- WorldError                   the embedded world cannot start or is not running
"""

from __future__ import annotations

from salesintel_dagster.domain.errors.enrichment import (
    CatalogInvalid,
    LedgerUnavailable,
    ProviderFailure,
    ProviderRefused,
    ProviderThrottled,
    ProviderTransient,
    ProviderUnusable,
)
from salesintel_dagster.domain.errors.export import (
    EmbedderUnusable,
    EmbeddingFailure,
    EmbeddingRefused,
    EmbeddingTransient,
    ImageFailure,
    ImageRefused,
    ImageTransient,
    SourceError,
    SourceMappingInvalid,
    SourceRefused,
    SourceSchemaMismatch,
    SourceUnavailable,
)
from salesintel_dagster.domain.errors.root import (
    AlertNotSent,
    AwsRefused,
    CheckBlocked,
    DeployFailed,
    MetricsNotSent,
    ProgressUnavailable,
    SalesIntelError,
    SettingInvalid,
    WorldError,
)
from salesintel_dagster.domain.errors.sales import (
    BatchUnfinished,
    RevisionConflict,
    SaleNotFound,
    SaleRefused,
    SalesStoreError,
    SalesUnavailable,
    SaleUnreadable,
    TenantMismatch,
)
from salesintel_dagster.domain.errors.stores import (
    CommitConflict,
    DuplicateKeys,
    EmptyReplacement,
    EventBusUnavailable,
    KeyInvalid,
    MessageNotFound,
    ObjectMissing,
    OutsideScope,
    QueryRefused,
    QueueUnavailable,
    ReceiptsUnavailable,
    RowsRefused,
    SchemaDrift,
    StagesMisaligned,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TableError,
    TableRefused,
    TableUnavailable,
    UpkeepRefused,
)

__all__ = [
    "AlertNotSent",
    "AwsRefused",
    "BatchUnfinished",
    "CatalogInvalid",
    "CheckBlocked",
    "CommitConflict",
    "DeployFailed",
    "DuplicateKeys",
    "EmbedderUnusable",
    "EmbeddingFailure",
    "EmbeddingRefused",
    "EmbeddingTransient",
    "EmptyReplacement",
    "EventBusUnavailable",
    "ImageFailure",
    "ImageRefused",
    "ImageTransient",
    "KeyInvalid",
    "LedgerUnavailable",
    "MessageNotFound",
    "MetricsNotSent",
    "ObjectMissing",
    "OutsideScope",
    "ProgressUnavailable",
    "ProviderFailure",
    "ProviderRefused",
    "ProviderThrottled",
    "ProviderTransient",
    "ProviderUnusable",
    "QueryRefused",
    "QueueUnavailable",
    "ReceiptsUnavailable",
    "RevisionConflict",
    "RowsRefused",
    "SaleNotFound",
    "SaleRefused",
    "SaleUnreadable",
    "SalesIntelError",
    "SalesStoreError",
    "SalesUnavailable",
    "SchemaDrift",
    "SettingInvalid",
    "SourceError",
    "SourceMappingInvalid",
    "SourceRefused",
    "SourceSchemaMismatch",
    "SourceUnavailable",
    "StagesMisaligned",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TableError",
    "TableRefused",
    "TableUnavailable",
    "TenantMismatch",
    "UpkeepRefused",
    "WorldError",
]
