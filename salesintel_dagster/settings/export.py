"""How the daily export behaves: its days, its limits, its thresholds."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from salesintel_dagster.domain.calendar import Hemisphere
from salesintel_dagster.settings import kinds


class ExportSettings(BaseModel):
    """The daily export."""

    partition_zone: Annotated[str, AfterValidator(kinds.zone)] = Field(
        "UTC", description="Zone whose days are partitions"
    )
    first_day: Annotated[str, AfterValidator(kinds.day)] = Field(
        "2024-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$", description="First partition"
    )
    hemisphere: Hemisphere = Field(Hemisphere.NORTH, description="`north` or `south`: which months are winter")
    default_currency: Annotated[str, AfterValidator(kinds.currency)] = Field(
        "EUR", description="Currency of a sale whose source has none"
    )

    image_concurrency: int = Field(5, ge=1, le=256, description="Image downloads at once")
    image_concurrency_per_host: int = Field(5, ge=1, le=256, description="Image downloads at once from one host")
    image_retries: int = Field(3, ge=0, le=10, description="Tries after the first")
    image_retry_base_seconds: float = Field(1.0, gt=0, le=60, description="First wait; doubles with each try")
    image_deadline_seconds: float = Field(30.0, gt=0, le=600, description="All tries at one image together")
    max_image_bytes: int = Field(10 * 1024 * 1024, ge=1024, le=100 * 1024 * 1024, description="Largest image taken")
    max_image_pixels: int = Field(40_000_000, ge=1, le=89_000_000, description="Most pixels, read from the header")
    image_hosts_allowed: tuple[str, ...] = Field(
        (), description="host:port pairs that may be reached on non-public addresses (the embedded world's own)"
    )

    embedding_model: str = Field("amazon.titan-embed-image-v1", min_length=1, description="Bedrock model id or ARN")
    embedding_dimension: Annotated[Literal[256, 384, 1024], BeforeValidator(kinds.number)] = Field(
        1024, description="Length of a vector, in float32 values"
    )
    embedding_concurrency: int = Field(5, ge=1, le=256, description="Embedding calls at once")
    max_model_image_bytes: int = Field(5 * 1024 * 1024, ge=1024, description="Largest image the model takes")
    null_vector_warn_share: float = Field(0.05, ge=0, le=1, description="Share of sales without a vector that warns")
    null_vector_error_share: float = Field(0.5, ge=0, le=1, description="Share of sales without a vector that fails")

    commit_retries: int = Field(5, ge=0, le=50, description="Tries at a commit that another writer won")
    backfill_days_per_run: int = Field(30, ge=1, le=400, description="Partitions in one backfill run")
    run_max_seconds: int = Field(4 * 3600, ge=60, description="A run older than this is ended by run monitoring")

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose days are partitions."""
        return ZoneInfo(self.partition_zone)
