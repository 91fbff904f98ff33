"""The one partition scheme: calendar days of the configured zone."""

from datetime import date, datetime, timedelta

import dagster as dg

from salesintel_dagster.settings import Settings


def daily(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Return the days from the first one on; a day becomes a partition when it has ended in the zone."""
    return dg.DailyPartitionsDefinition(start_date=settings.first_day, timezone=settings.partition_zone)


def last_whole_day(at: datetime, settings: Settings) -> date:
    """Return the newest day that has ended in the zone at the instant `at`."""
    return at.astimezone(settings.zone).date() - timedelta(days=1)
