"""How sold events are taken in: the queues, the receipts, and how a run drains them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from salesintel_dagster.settings import kinds
from salesintel_dagster.settings.deployment import DeploymentSettings


class EventSettings(DeploymentSettings):
    """The sync of sold events."""

    event_tenants: Annotated[tuple[str, ...], AfterValidator(kinds.tenants)] = Field(
        (), description="Tenants whose events are taken, comma-separated; `TENANT` alone if not set"
    )
    event_queue: str | None = Field(None, description="Queue of sold events; derived from the stage if not set")
    event_dlq: str | None = Field(None, description="Its dead-letter queue; derived from the stage if not set")
    event_quarantine: str | None = Field(None, description="Its quarantine queue; derived from the stage if not set")
    receipts_table: str | None = Field(None, description="Receipts table; derived from the stage if not set")
    event_batch_messages: int = Field(100, ge=1, le=1000, description="Messages in one micro-batch, at most")
    event_gather_seconds: float = Field(
        20.0, ge=0, le=30, description="Longest gathering of one micro-batch; each makes a snapshot of sales_history"
    )
    event_idle_seconds: float = Field(20.0, ge=0, le=600, description="A run ends when nothing came for so long")
    event_run_seconds: float = Field(900.0, gt=0, le=14_400, description="A run begins no batch after so long")
    event_visibility_seconds: int = Field(
        180,
        ge=30,
        le=43_200,
        description="First visibility timeout of a received event; extended while it is worked on",
    )

    @property
    def tenants_of_events(self) -> frozenset[str]:
        """The allow-list."""
        return frozenset(self.event_tenants or (self.tenant,))

    @property
    def event_queue_name(self) -> str:
        """The queue of sold events."""
        return self.event_queue or f"carousel-sync-{self.stage}"

    @property
    def event_dlq_name(self) -> str:
        """Where events go that were received too often."""
        return self.event_dlq or f"carousel-sync-dlq-{self.stage}"

    @property
    def event_quarantine_name(self) -> str:
        """Where events go that no store takes."""
        return self.event_quarantine or f"carousel-sync-quarantine-{self.stage}"

    @property
    def receipts_table_name(self) -> str:
        """The receipts of events that both stores have."""
        return self.receipts_table or f"bg-remover-{self.stage}-idempotency"
