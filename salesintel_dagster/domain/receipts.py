"""Receipts: that a sale is in both stores, remembered for a day, as a short cut for repetitions.

A receipt is written last and decides nothing that the stores would decide otherwise: without one, a repetition is
found by the stores themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from salesintel_dagster.domain.sale_event import EVENT_TYPE, SaleIdentity
from salesintel_dagster.domain.sales_keys import escaped

RECEIPT_RETENTION = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What both stores hold of a sale: the payload's hash and the event's version."""

    identity: SaleIdentity
    payload_hash: str
    event_version: int


class Receipts(ABC):
    """The receipts of the last 24 hours. One that has expired is absent, deleted or not."""

    @abstractmethod
    def get(self, identities: Collection[SaleIdentity]) -> Mapping[SaleIdentity, Receipt]:
        """Return the receipts that are there. Raises ReceiptsUnavailable."""

    @abstractmethod
    def put(self, receipts: Collection[Receipt]) -> None:
        """Write receipts, over older ones of the same sales; return when all are kept. Raises ReceiptsUnavailable."""

    @abstractmethod
    def forget(self, identities: Collection[SaleIdentity]) -> None:
        """Delete receipts, so that the stores themselves answer; one that is not there is none. As `put` raises."""


def receipt_key(identity: SaleIdentity) -> str:
    """Return `IDEMPOTENCY#tenant#carousel.product.sold#sale`, injective for any text."""
    return f"IDEMPOTENCY#{escaped(identity.tenant_id)}#{EVENT_TYPE}#{escaped(identity.sale_id)}"
