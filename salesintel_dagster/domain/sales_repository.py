"""The one door to the sales table in DynamoDB, as small ports by who needs what.

Rules that hold for every method: the tenant is the caller's context's and no other tenant's sale is read or changed;
a sale whose ttl has passed is absent, whether or not DynamoDB has deleted it; an answer is whole or it is an error
(SalesUnavailable). All may raise TenantMismatch, SaleRefused and SalesUnavailable beside what is named.

Uniqueness of (tenant, sale_id) rests on a guard item that is written in the same transaction as the sale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from salesintel_dagster.domain.calendar import Season
from salesintel_dagster.domain.errors import SaleRefused
from salesintel_dagster.domain.sale_record import SaleRecord
from salesintel_dagster.domain.sales_keys import SaleKey
from salesintel_dagster.domain.tenancy import CallerContext

MAX_PAGE = 10_000


class PutOutcome(StrEnum):
    """What a put found."""

    CREATED = "CREATED"
    DUPLICATE = "DUPLICATE"
    """The sale is there with the same payload hash; nothing was written."""
    CONFLICT = "CONFLICT"
    """The sale is there with another payload hash; nothing was written."""


class CorrectionOutcome(StrEnum):
    """What a correction found."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    """This version with this payload hash is there already; nothing was written."""
    CONFLICT = "CONFLICT"
    """This version is there with another payload hash; nothing was written."""
    STALE = "STALE"
    """A higher version is there; nothing was written."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """`held_hash` is the payload hash that is in the table now: ours, or the one that was there first."""

    outcome: PutOutcome
    held_hash: str


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """What is in the table now: hash and version."""

    outcome: CorrectionOutcome
    held_hash: str
    held_version: int


@dataclass(frozen=True, slots=True)
class StoredSale:
    """A sale as it is kept. `revision` rises by one with each change; `ttl` is None in items older than the rule."""

    record: SaleRecord
    revision: int
    ttl: int | None


@dataclass(frozen=True, slots=True)
class RefusedSale:
    """A sale of a batch that was not written, and the rule."""

    sale_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch; the four add up to the records given. `repeated`: twice the same in the batch itself."""

    created: int = 0
    duplicates: int = 0
    repeated: int = 0
    conflicts: tuple[RefusedSale, ...] = ()
    refused: tuple[RefusedSale, ...] = ()

    @property
    def total(self) -> int:
        """The records given."""
        return self.created + self.duplicates + self.repeated + len(self.conflicts) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Period:
    """Days from `first` to `last`, both included. Raises SaleRefused where they are the other way round."""

    first: date
    last: date

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        if self.first > self.last:
            raise SaleRefused("period", f"{self.first}..{self.last}", "the first day does not lie after the last")

    def holds(self, day: date) -> bool:
        """Tell whether the day is one of them."""
        return self.first <= day <= self.last


ALWAYS = Period(date.min, date.max)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` sales after `after`, the key of the last one seen; without a limit all of them."""

    limit: int | None = None
    after: SaleKey | None = None

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        if self.limit is not None and not 1 <= self.limit <= MAX_PAGE:
            raise SaleRefused("limit", str(self.limit), f"between 1 and {MAX_PAGE}")


ALL = PageRequest()


@dataclass(frozen=True, slots=True)
class SalePage:
    """Sales in the order of their keys (day, product, sale id); `after` asks for the next page, None: there is none."""

    sales: tuple[StoredSale, ...]
    after: SaleKey | None = None


@dataclass(frozen=True, slots=True, order=True)
class HeldSale:
    """What the reconcile check compares: that a sale is there, and with which payload."""

    sale_id: str
    payload_hash: str


class SaleWriter(ABC):
    """Sales that arrive."""

    @abstractmethod
    def put(self, context: CallerContext, record: SaleRecord) -> PutResult:
        """Write a sale that is not there yet, in one transaction with its guard. Never changes one that is there."""

    @abstractmethod
    def correct(self, context: CallerContext, record: SaleRecord) -> CorrectionResult:
        """Replace a sale by a higher `event_version` of it; where day or product moved, the old item goes with it.

        Raises SaleNotFound.
        """

    @abstractmethod
    def put_many(self, context: CallerContext, records: Iterable[SaleRecord]) -> BatchReport:
        """Write many sales, e.g. a day's import: those that are there are left alone and counted.

        Not a transaction: one loader at a time. A batch that died is given again as a whole. Raises BatchUnfinished
        with the ids that are not certain.
        """

    @abstractmethod
    def withdraw(self, context: CallerContext, record: SaleRecord) -> bool:
        """Delete a sale and its guard where it is still this payload under this key; tell whether it was.

        Not by the revision: what has come since a quicker worker withdrew the same is at revision 1 as well.
        """


class SaleEditor(ABC):
    """Sales that are changed by hand; each is found by its id."""

    @abstractmethod
    def update(self, context: CallerContext, sale_id: str, changes: Mapping[str, object], revision: int) -> StoredSale:
        """Change fields of the sale that has `revision`; keys, index entries and ttl follow. Return what is there now.

        `changes` are fields of SaleRecord but `IDENTITY_FIELDS`. Raises SaleNotFound, RevisionConflict.
        """

    @abstractmethod
    def delete(self, context: CallerContext, sale_id: str, revision: int | None = None) -> StoredSale:
        """Delete the sale and its guard; return what was there. With `revision`, only that one.

        Raises SaleNotFound, RevisionConflict.
        """


class SaleReader(ABC):
    """Look-ups. All are strongly consistent."""

    @abstractmethod
    def get(self, context: CallerContext, key: SaleKey) -> StoredSale | None:
        """Return the sale of that key."""

    @abstractmethod
    def by_sale_id(self, context: CallerContext, sale_id: str) -> StoredSale | None:
        """Return the sale of that id."""

    @abstractmethod
    def get_many(self, context: CallerContext, keys: Sequence[SaleKey]) -> tuple[StoredSale, ...]:
        """Return those of the keys that are there, in the order of their keys."""


class SaleQueries(ABC):
    """Questions that an index answers: a sale written a moment ago may be missing for less than a second."""

    @abstractmethod
    def category_season(
        self, context: CallerContext, category: str, season: Season, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return a category's sales of one season (all its years, or those days of it that lie in `period`)."""

    @abstractmethod
    def embeddings(
        self, context: CallerContext, product_id: str | None, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return the sales with an embedding: a product's (strongly consistent), or with None all products'."""

    @abstractmethod
    def brand_prices(
        self, context: CallerContext, brand: str, period: Period = ALWAYS, page: PageRequest = ALL
    ) -> SalePage:
        """Return a brand's sales."""

    @abstractmethod
    def of_day(self, context: CallerContext, day: date) -> tuple[HeldSale, ...]:
        """Return every sale of the tenant and day with its payload hash, in the order of sale ids."""


class SalesRepository(SaleWriter, SaleEditor, SaleReader, SaleQueries):
    """The whole door. Ask for the part you need."""


class ShardCensus(ABC):
    """How full the shards are."""

    @abstractmethod
    def sizes(self, context: CallerContext, category: str | None) -> tuple[int, ...]:
        """Return how many sales lie in each shard: of a category, or with None of all sales by day (GSI2)."""
