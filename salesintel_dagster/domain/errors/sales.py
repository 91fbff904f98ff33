"""What can go wrong with the sales table in DynamoDB. The tree is drawn in the package."""

from __future__ import annotations

from salesintel_dagster.domain.errors.root import SalesIntelError

_NAMED = 10
"""Ids named in a sentence; the error's attribute has them all."""


class SalesStoreError(SalesIntelError):
    """The sales table in DynamoDB refused."""


class SaleRefused(SalesStoreError):
    """A value breaks a rule. Nothing was written."""

    def __init__(self, field: str, value: str, rule: str) -> None:
        super().__init__(f"{field}: {value}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class TenantMismatch(SalesStoreError):
    """The sale is another tenant's than the caller. Nothing was read or written."""


class SaleNotFound(SalesStoreError):
    """The caller's tenant has no such sale, or it has expired."""


class SaleUnreadable(SalesStoreError):
    """An item in the table is not one that this software has written; the message names its key."""


class RevisionConflict(SalesStoreError):
    """Somebody changed the sale since it was read: a lost update was refused."""


class SalesUnavailable(SalesStoreError):
    """The table throttled us or was out of reach beyond the retries. An answer is whole or it is this."""


class BatchUnfinished(SalesStoreError):
    """A batch was written in part; `rest` are the sale ids of which that is not certain. Writing them again is safe."""

    def __init__(self, reason: str, rest: tuple[str, ...]) -> None:
        named = ", ".join(rest[:_NAMED]) + (f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else "")
        super().__init__(f"{len(rest)} sales of the batch are not written ({reason}): {named}")
        self.rest = rest
