"""What can go wrong with objects, Iceberg tables, queues and receipts. The tree is drawn in the package."""

from __future__ import annotations

from salesintel_dagster.domain.errors.root import SalesIntelError


class StoreError(SalesIntelError):
    """The object store failed."""


class KeyInvalid(StoreError):
    """A key breaks the rules; nothing was asked of the store."""


class ObjectMissing(StoreError):
    """No object under that key."""


class StoreUnavailable(StoreError):
    """The object store did not answer within its retries."""


class StoreRefused(StoreUnavailable):
    """These credentials may not do that: trying again at once is in vain."""


class StagesMisaligned(StoreError):
    """The staged data sets of a day do not speak of the same sales; the message names the one to make again."""


class TableError(SalesIntelError):
    """The Iceberg table refused."""


class CommitConflict(TableError):
    """Another writer was first, more often than we retry."""


class TableUnavailable(TableError):
    """Catalog or storage out of reach within the deadline; nothing was committed."""


class TableRefused(TableUnavailable):
    """These credentials may not do that in catalog or storage: trying again at once is in vain."""


class EmptyReplacement(TableError):
    """Zero rows would replace a day that has rows, and `allow_empty` was not given."""


class DuplicateKeys(TableError):
    """One frame holds a (tenant_id, sale_id) twice."""


class OutsideScope(TableError):
    """A row is of another day, tenant or source than the one being replaced."""


class SchemaDrift(TableError):
    """The table's schema or partition spec is not the one this version writes."""


class RowsRefused(TableError):
    """The rows cannot be written because of what they hold; other rows could be. Nothing was committed."""


class UpkeepRefused(TableError):
    """Upkeep met something it cannot judge, and left it as it was; the message says what to look at."""


class QueryRefused(TableError):
    """The SQL is not one SELECT over our tables, or does not run."""


class QueueUnavailable(SalesIntelError):
    """A queue did not answer, or refused, beyond the retries. What it holds comes again."""


class EventBusUnavailable(SalesIntelError):
    """The event bus did not answer beyond the retries: any event of the last batch may have been taken."""


class MessageNotFound(SalesIntelError):
    """A queue holds no message of that id, or somebody else has it in hand."""


class ReceiptsUnavailable(SalesIntelError):
    """The receipts table did not answer beyond the retries."""
