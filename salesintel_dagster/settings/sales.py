"""How the sales table in DynamoDB is spread."""

from __future__ import annotations

from pydantic import BaseModel, Field

from salesintel_dagster.domain.shards import CATEGORY_SHARDS, EMBEDDING_SHARDS, MAX_SHARDS


class SalesTableSettings(BaseModel):
    """The sales table."""

    sales_category_shards: int = Field(
        CATEGORY_SHARDS,
        ge=1,
        le=MAX_SHARDS,
        description="Shards of a category for new sales; reads go over all ever used",
    )
    sales_embedding_shards: int = Field(
        EMBEDDING_SHARDS, ge=1, le=MAX_SHARDS, description="Shards of the sales by day, the same way"
    )
