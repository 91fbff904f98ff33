"""Where alerts go."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from salesintel_dagster.settings import kinds


class AlertSettings(BaseModel):
    """The alert sinks."""

    alert_topic_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$",
        description="SNS topic of alerts",
    )
    alert_webhook_url: Annotated[SecretStr, AfterValidator(kinds.webhook)] | None = Field(
        None, description="Webhook of alerts (a secret); takes Slack's JSON"
    )
    alert_link_base: str | None = Field(
        None, pattern=r"^https?://[A-Za-z0-9.:\[\]_/-]+$", description="The UI's address, for the links in alerts"
    )
