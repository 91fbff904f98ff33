"""Asking the provider: which batches there are tokens for, and their identifiers in as few requests as they fit in.

Every key is asked for once, however many products share it. No request is begun once one was refused for all of them
(tokens, key, outage): what was not asked counts as no try.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from salesintel_dagster.domain.enrichment.batch import FINAL, Batch, ProductStatus, Reason
from salesintel_dagster.domain.enrichment.facts import LookUp, NoFacts, ProductFacts
from salesintel_dagster.domain.enrichment.ports import EnrichmentProvider
from salesintel_dagster.domain.enrichment.product import CatalogProduct, LookUpKey, LookUpKind
from salesintel_dagster.domain.enrichment.tokens import TokenLevel
from salesintel_dagster.domain.errors import ProviderFailure, ProviderThrottled, ProviderTransient, ProviderUnusable

OUTAGES_IN_A_ROUND = 3
"""Requests that found the provider down before the others are not begun."""
ASK_ALONE = frozenset({Reason.INVALID, Reason.REFUSED})
"""After one of these for a whole request each of its keys is asked for alone: one bad product spoils no other."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A request that gave nothing for a key; `tried` where the provider was asked, `alone` where for nothing else."""

    failure: ProviderFailure
    tried: bool
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Paid:
    """The key's rows were paid for in an earlier round that could not store them: it is not asked for."""


Outcome = ProductFacts | NoFacts | Missed | Paid


@dataclass(slots=True)
class Asked:
    """What came of one round's requests, by key."""

    outcomes: dict[LookUpKey, Outcome] = field(default_factory=dict)
    requests: int = 0
    tokens: TokenLevel | None = None


def open_products(batch: Batch) -> list[tuple[CatalogProduct, ProductStatus]]:
    """Return the batch's products that are neither DONE nor FAILED."""
    pairs = zip(batch.products, batch.statuses, strict=True)
    return [(product, status) for product, status in pairs if status.state not in FINAL]


def planned(wanted: Iterable[tuple[CatalogProduct, ProductStatus]], provider: EnrichmentProvider) -> list[LookUp]:
    """Return the requests for these products."""
    together: dict[LookUpKey, None] = {}
    alone: dict[LookUpKey, None] = {}
    for product, status in wanted:
        suspected = status.reason in ASK_ALONE and status.attempts > 0
        (alone if suspected else together)[product.key] = None
    requests = [LookUp(key.kind, (key.identifier,)) for key in alone]
    for kind in LookUpKind:
        names = [key.identifier for key in together if key.kind is kind and key not in alone]
        size = provider.max_per_request
        requests += [LookUp(kind, tuple(names[start : start + size])) for start in range(0, len(names), size)]
    return requests


class Asking:
    """Sends one round's requests, some at once; `beat` is called before each of them, one thread at a time."""

    def __init__(self, provider: EnrichmentProvider, concurrency: int, beat: Callable[[], None]) -> None:
        self._provider = provider
        self._concurrency = concurrency
        self._beat = beat
        self._lock = threading.Lock()
        self._stopped_by: ProviderFailure | None = None
        self._outages = 0

    def ask(self, requests: Sequence[LookUp]) -> Asked:
        """Return every key's outcome."""
        asked = Asked()
        with ThreadPoolExecutor(max(1, min(self._concurrency, len(requests)))) as threads:
            futures = {threads.submit(self._one, request): request for request in requests}
            for future in as_completed(futures):
                outcomes, tokens, tried = future.result()
                asked.outcomes |= outcomes
                asked.requests += tried
                if tokens is not None and (asked.tokens is None or _newer(tokens, asked.tokens)):
                    asked.tokens = tokens
        return asked

    def _one(self, request: LookUp) -> tuple[Mapping[LookUpKey, Outcome], TokenLevel | None, bool]:
        keys = {name: LookUpKey(request.kind, name) for name in request.identifiers}
        with self._lock:
            stopped_by = self._stopped_by
            self._beat()
        if stopped_by is not None:
            return dict.fromkeys(keys.values(), Missed(stopped_by, tried=False)), None, False
        try:
            answer = self._provider.look_up(request)
        except ProviderFailure as failure:
            self._note(failure)
            missed = Missed(failure, tried=True, alone=len(keys) == 1)
            return dict.fromkeys(keys.values(), missed), failure.tokens, True
        nothing = NoFacts(Reason.NOT_FOUND, "the provider did not answer for it")
        return {key: answer.by_identifier.get(name, nothing) for name, key in keys.items()}, answer.tokens, True

    def _note(self, failure: ProviderFailure) -> None:
        """Remember a failure that makes further requests of this round vain."""
        with self._lock:
            self._outages += isinstance(failure, ProviderTransient) and failure.reason is not Reason.INVALID
            if isinstance(failure, ProviderThrottled | ProviderUnusable) or self._outages >= OUTAGES_IN_A_ROUND:
                self._stopped_by = failure


def _newer(one: TokenLevel, other: TokenLevel) -> bool:
    return (one.observed_at, -one.left) > (other.observed_at, -other.left)
