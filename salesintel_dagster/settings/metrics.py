"""When a dashboard's alarm is raised."""

from __future__ import annotations

from pydantic import BaseModel, Field


class MetricSettings(BaseModel):
    """The alarms of the template."""

    slow_export_seconds: int = Field(
        1800, ge=1, le=86_400, description="A day that takes longer raises the alarm; reaches it by `salesintel deploy`"
    )
