"""What can go wrong with a catalog, its provider and its status table. The tree is drawn in the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salesintel_dagster.domain.errors.root import SalesIntelError

if TYPE_CHECKING:
    from salesintel_dagster.domain.enrichment.batch import Reason
    from salesintel_dagster.domain.enrichment.tokens import TokenLevel


class CatalogInvalid(SalesIntelError):
    """A catalog, or an id given with it, breaks the rules; nothing was submitted."""


class ProviderFailure(SalesIntelError):
    """A request to the enrichment provider gave no facts; `tokens` is what the answer said of them, if anything."""

    def __init__(self, reason: Reason, detail: str, tokens: TokenLevel | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.tokens = tokens


class ProviderThrottled(ProviderFailure):
    """There are not enough tokens; nothing was paid."""


class ProviderTransient(ProviderFailure):
    """Worth another try."""


class ProviderRefused(ProviderFailure):
    """Final for this request."""


class ProviderUnusable(ProviderFailure):
    """Final for every request: the key, its payment or its permission is wrong. The message names the setting."""


class LedgerUnavailable(SalesIntelError):
    """The enrichment status table does not answer, or answers with what is not ours."""
