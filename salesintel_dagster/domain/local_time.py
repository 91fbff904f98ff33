"""Local time without an offset, as instants: what Postgres calls `AT TIME ZONE`, for sources that cannot do it.

An hour that occurs twice is read as its second occurrence, an hour that does not occur as if the clocks had not been
changed yet: of the two readings the later one, always.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_STEP = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


def instant_of(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant of a naive `local` time in `zone`, in UTC. Raises OverflowError past year 9999."""
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def offsets(zone: ZoneInfo, first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """Return what to subtract from local times between `first` and `last`: (until, seconds), the last until `last`.

    All three are naive. Two changes of the clocks within one hour are taken for one.
    """
    found: list[tuple[datetime, int]] = []
    at, seconds = first, _offset(first, zone)
    while at < last:
        after = min(at + _STEP, last)
        new = _offset(after, zone)
        if new != seconds:
            found.append((_change(zone, at, after), seconds))
        at, seconds = after, new
    return [*found, (last, seconds)]


def _offset(local: datetime, zone: ZoneInfo) -> int:
    return int((local - instant_of(local, zone).replace(tzinfo=None)).total_seconds())


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second with the offset of `after`."""
    old = _offset(before, zone)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        before, after = (middle, after) if _offset(middle, zone) == old else (before, middle)
    return after
