"""How often and how long a day's sales are asked for."""

from __future__ import annotations

from pydantic import BaseModel, Field

from salesintel_dagster.domain.retry import SOURCE_RETRY


class SourceSettings(BaseModel):
    """Limits of reading from the sales source; where it is stands in its SSM parameter."""

    source_retries: int = Field(SOURCE_RETRY.retries, ge=0, le=10, description="Readings of a day after the first")
    source_deadline_seconds: float = Field(
        SOURCE_RETRY.deadline_seconds, gt=0, le=14_400, description="All readings of a day together"
    )
