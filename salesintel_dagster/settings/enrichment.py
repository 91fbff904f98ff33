"""How products are enriched: the provider, its limits, and the queue and table that carry the work."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from salesintel_dagster.settings import kinds
from salesintel_dagster.settings.deployment import DeploymentSettings


class EnrichmentSettings(DeploymentSettings):
    """The enrichment of catalogs."""

    keepa_url: str = Field(
        "https://api.keepa.com",
        pattern=r"^(https://api\.keepa\.com|http://(127\.0\.0\.1|localhost):\d{1,5})$",
        description="Keepa's API, or a stand-in for it on this machine",
    )
    keepa_key: SecretStr | None = Field(None, min_length=1, max_length=256, description="Keepa's API key (a secret)")
    keepa_domain: Annotated[Literal[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12], BeforeValidator(kinds.number)] = Field(
        3,
        description="Amazon locale: 1 com, 2 co.uk, 3 de, 4 fr, 5 co.jp, 6 ca, 8 it, 9 es, 10 in, 11 com.mx, 12 com.br",
    )
    enrichment_batch_size: int | None = Field(
        None, ge=5, le=50, description="Products in a batch; 20 where not set, moved into what suits the catalog's size"
    )
    enrichment_request_products: int = Field(100, ge=1, le=100, description="Products in one request to the provider")
    enrichment_concurrency: int = Field(10, ge=1, le=32, description="Requests to the provider at once")
    enrichment_attempts: int = Field(4, ge=1, le=8, description="Tries at a product before it is FAILED")
    enrichment_deadline_seconds: float = Field(30.0, gt=0, le=60, description="One request to the provider")
    enrichment_error_share: float = Field(0.05, ge=0, le=1, description="Share of failed products that alerts")
    enrichment_table: str | None = Field(None, description="Enrichment status table; derived from the stage if not set")
    enrichment_queue: str | None = Field(None, description="Enrichment queue; derived from the stage if not set")
    enrichment_dlq: str | None = Field(None, description="Its dead-letter queue; derived from the stage if not set")

    @property
    def enrichment_table_name(self) -> str:
        """The status table in DynamoDB."""
        return self.enrichment_table or f"{self.stage}-enrichment-status"

    @property
    def enrichment_queue_name(self) -> str:
        """The queue of batches."""
        return self.enrichment_queue or f"product-enrichment-{self.stage}"

    @property
    def enrichment_dlq_name(self) -> str:
        """Where messages go that were received too often."""
        return self.enrichment_dlq or f"product-enrichment-dlq-{self.stage}"
