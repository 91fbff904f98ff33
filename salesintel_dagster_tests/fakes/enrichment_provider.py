"""A provider in memory, scripted with outcomes per request or per identifier."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from salesintel_dagster.domain.enrichment.batch import Reason
from salesintel_dagster.domain.enrichment.facts import Answer, LookUp, NoFacts, ProductFacts
from salesintel_dagster.domain.enrichment.ports import EnrichmentProvider
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import ProviderFailure, ProviderRefused
from salesintel_dagster_tests.fakes.wire import Wire

PROVIDER = "local-scripted"
UPDATED = datetime(2026, 11, 1, tzinfo=UTC)


def facts(identifier: str) -> ProductFacts:
    return ProductFacts(
        asin=identifier if identifier.startswith("B") else f"B{identifier[-9:]:0>9}",
        title=f"Product {identifier}",
        brand="Brisa",
        category="Dresses",
        category_path="Clothing > Dresses",
        prices={"new": Decimal("18.99"), "list": Decimal("24.99")},
        currency="EUR",
        sales_rank=42,
        image_urls=("https://m.media-amazon.com/images/I/x.jpg",),
        updated_at=UPDATED,
    )


class ScriptedProvider(EnrichmentProvider):
    """`script` holds what happens at the next requests (an error, or something to call before answering).

    `none` are identifiers without facts; `poison` ones for which any request is refused. `paid` counts how often each
    identifier was answered.
    """

    def __init__(
        self, *, max_per_request: int = 100, tokens: TokenLevel | None = None, wire: Wire | None = None
    ) -> None:
        self.wire = wire or Wire()
        self.script: deque[ProviderFailure | Callable[[LookUp], None] | None] = deque()
        self.always: ProviderFailure | None = None
        self.none: dict[str, NoFacts] = {}
        self.poison: set[str] = set()
        self.requests: list[LookUp] = []
        self.paid: Counter[str] = Counter()
        self.tokens = tokens
        self._max = max_per_request
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return PROVIDER

    @property
    def max_per_request(self) -> int:
        return self._max

    def look_up(self, request: LookUp) -> Answer:
        with self.wire.call("look up"):
            return self._looked_up(request)

    def _looked_up(self, request: LookUp) -> Answer:
        with self._lock:
            self.requests.append(request)
            scripted = self.script.popleft() if self.script else self.always
            if isinstance(scripted, ProviderFailure):
                raise scripted
            if self.poison.intersection(request.identifiers):
                raise ProviderRefused(Reason.REFUSED, "answered 400", self.tokens)
            if scripted is not None:
                scripted(request)
            self.paid.update(request.identifiers)
            if self.tokens is not None:
                self.tokens = self.tokens.less(len(request.identifiers))
            return Answer({name: self.none.get(name) or facts(name) for name in request.identifiers}, self.tokens)
