"""What a provider knows about a product, and what came of one request. Nothing here is guessed: unknown is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.product import LookUpKind
from salesintel_dagster.domain.enrichment.tokens import TokenLevel

PRICE_KINDS = ("amazon", "new", "used", "list")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """One product as the provider tells it.

    Prices by kind (`PRICE_KINDS`), in `currency`; one that the provider does not know is not among them. `matches`
    counts the provider's products for one code, of which the best selling was taken.
    """

    asin: str
    title: str | None
    brand: str | None
    category: str | None
    category_path: str | None
    prices: Mapping[str, Decimal]
    currency: str
    sales_rank: int | None
    image_urls: tuple[str, ...]
    updated_at: datetime | None
    matches: int = 1


@dataclass(frozen=True, slots=True)
class NoFacts:
    """Why the provider has no facts for one identifier; final."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class LookUp:
    """One request: at most the provider's `max_per_request` identifiers, each once, all of one kind."""

    kind: LookUpKind
    identifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for each identifier of the request, and the token level after it."""

    by_identifier: Mapping[str, ProductFacts | NoFacts]
    tokens: TokenLevel | None
