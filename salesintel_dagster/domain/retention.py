"""How long the sales table in DynamoDB keeps a sale: two calendar years after its day. Pure, never of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

RETENTION_YEARS = 2
_FEBRUARY = 2
_LEAP_DAY = 29
DYNAMODB_DELETES_WITHIN = timedelta(days=5 * 365)
"""DynamoDB leaves an item alone whose ttl lies more than five years in the past: it would stay for ever.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-before-you-start.html
"""


def expires_on(sold_date: date) -> date:
    """Return the same calendar day two years later; 29 February becomes 1 March.

    Raises ValueError where the calendar ends before.
    """
    year = sold_date.year + RETENTION_YEARS
    if (sold_date.month, sold_date.day) == (_FEBRUARY, _LEAP_DAY):  # two years after a leap year there is none
        return date(year, 3, 1)
    return sold_date.replace(year=year)


def ttl_of(sold_date: date) -> int:
    """Return when a sale of that day expires: 00:00 UTC of `expires_on`, in whole seconds of the epoch.

    2025-12-29 gives 1830038400. It is what is stored: DynamoDB takes no milliseconds and no text.
    """
    return int(datetime.combine(expires_on(sold_date), time(), tzinfo=UTC).timestamp())


def is_expired(ttl: int | None, now: datetime) -> bool:
    """Tell whether an item is to be treated as absent; without a ttl it never is. DynamoDB deletes days late."""
    return ttl is not None and ttl <= int(now.timestamp())


def outlives_dynamodb(ttl: int, now: datetime) -> bool:
    """Tell whether a ttl lies so far back that DynamoDB will never delete the item."""
    return ttl < int((now - DYNAMODB_DELETES_WITHIN).timestamp())
