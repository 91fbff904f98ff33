"""What embeddings may cost, and when a model that fails is left alone."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, Field


class EmbeddingCostSettings(BaseModel):
    """Budgets are money: a price a call turns them into calls."""

    embedding_price_usd: Decimal = Field(
        Decimal("0.00006"), gt=0, le=1, description="Price of one embedded image, in USD"
    )
    embedding_budget_run_usd: Decimal = Field(
        Decimal("1.20"), ge=0, le=10_000, description="USD that one run may spend on embeddings"
    )
    embedding_budget_day_usd: Decimal = Field(
        Decimal("12.00"), ge=0, le=100_000, description="USD that all runs of a UTC day may spend on embeddings"
    )
    embedding_breaker_failures: int = Field(
        10, ge=1, le=10_000, description="Images failing in a row after which a run calls the model no more"
    )

    @property
    def embedding_calls_a_run(self) -> int:
        """The run's budget in calls."""
        return int(self.embedding_budget_run_usd // self.embedding_price_usd)
