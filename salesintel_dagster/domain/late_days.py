"""Which days to export again, and which not yet: pure plans over what was seen of source, table and runs.

Two questions, one plan. A day is *missing* when it is due and was never exported; it is *late* when its source now
says something else than the reading that the table was made from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from salesintel_dagster.domain.calendar import days_between
from salesintel_dagster.domain.fingerprint import SourceFingerprint

LOOK_BACK_DAYS = 3
"""Days before the newest due one whose source is asked again: rows come late by hours, seldom by days."""
MISSING_DAYS = 30
"""How far back a gap is filled by itself; what lies further back is a person's backfill."""
GRACE = timedelta(minutes=10)
"""The nightly schedule goes first: its run must be seen before a gap is judged."""
WAITS = (timedelta(0), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""Before each try, counted from the end of the last: five tries over 17 hours, then a person is needed."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a day was tried in vain, and when the last try ended (aware)."""

    count: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class DayGroup:
    """Days without a gap between them, for one run. `tries` is the sum of theirs: a retry is another request."""

    days: tuple[date, ...]
    tries: int

    def key(self, reason: str) -> str:
        """Return the run key: the same until a try has ended, since Dagster never runs one key twice."""
        return f"{reason}-{self.days[0]}-{self.days[-1]}-{self.tries}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for now, and why the other wanted days are left for later or for a person."""

    groups: tuple[DayGroup, ...]
    busy: tuple[date, ...] = ()
    waiting: tuple[date, ...] = ()
    given_up: tuple[date, ...] = ()

    @property
    def days(self) -> tuple[date, ...]:
        """The days asked for."""
        return tuple(day for group in self.groups for day in group.days)

    def sentence(self, wanted: str) -> str:
        """Return one sentence for a person about the days that are not asked for; `wanted` says what they are."""
        parts = [
            f"{told(self.busy)}: an export is queued or under way" if self.busy else "",
            f"{told(self.waiting)}: the last try failed, the next one waits" if self.waiting else "",
            f"{told(self.given_up)}: {len(WAITS)} tries failed, materialise by hand" if self.given_up else "",
        ]
        why = "; ".join(part for part in parts if part)
        return f"{wanted}: {why}." if why else f"{wanted}: none."


def told(days: Sequence[date]) -> str:
    """Return days as a sentence names them: the first few, and how many more."""
    named = ", ".join(day.isoformat() for day in days[:3])
    return named if len(days) <= len(days[:3]) else f"{named} and {len(days) - 3} more"


def newest_due_day(now: datetime, zone: ZoneInfo, hour_utc: int, grace: timedelta = GRACE) -> date:
    """Return the newest day that the nightly schedule, at `hour_utc`, should have asked for by `now - grace`."""
    at = (now - grace).astimezone(UTC)
    slot = datetime.combine(at.date(), time(hour_utc), UTC)
    if slot > at:
        slot -= timedelta(days=1)
    return slot.astimezone(zone).date() - timedelta(days=1)


def missing_days(newest: date, exported: Collection[date], first_night: date | None) -> list[date]:
    """Return the days of the last `MISSING_DAYS` up to `newest` that were never exported.

    Only days from `first_night` on, the first that the nightly schedule asked for: neither a new deployment nor a
    backfill of an old day by hand pays for a month that nobody asked for.
    """
    if first_night is None or first_night > newest:
        return []
    begins = max(first_night, newest - timedelta(days=MISSING_DAYS - 1))
    return [day for day in days_between(begins, newest) if day not in exported]


def look_back_days(newest: date, exported: Collection[date]) -> list[date]:
    """Return the days to compare with the source: exported ones among the `LOOK_BACK_DAYS` before `newest`."""
    days = (newest - timedelta(days=n) for n in range(LOOK_BACK_DAYS, 0, -1))
    return [day for day in days if day in exported]


@dataclass(frozen=True, slots=True)
class DayCompared:
    """A day's source now, and the reading its table rows were made from; None where that is not known any more."""

    day: date
    source: SourceFingerprint
    exported: SourceFingerprint | None

    @property
    def differs(self) -> bool:
        """Whether the day must be exported again. What is not known counts as different: that costs one run."""
        return self.source != self.exported


def plan(
    wanted: Iterable[date], busy: Collection[date], tries: Mapping[date, Tries], now: datetime, days_per_run: int
) -> Plan:
    """Return which wanted days to ask for now, in runs of at most `days_per_run` neighbours.

    Never a day that is `busy` (a run for it is queued or in progress), nor one whose last try ended too short ago,
    nor one that failed `len(WAITS)` times.
    """
    ready: list[date] = []
    left: dict[str, list[date]] = {"busy": [], "waiting": [], "given_up": []}
    for day in sorted(set(wanted)):
        why = _why_not(day in busy, tries.get(day), now)
        (left[why] if why else ready).append(day)
    groups = tuple(
        DayGroup(days, sum(tries[day].count for day in days if day in tries)) for days in _runs(ready, days_per_run)
    )
    return Plan(groups, tuple(left["busy"]), tuple(left["waiting"]), tuple(left["given_up"]))


def _why_not(busy: bool, tried: Tries | None, now: datetime) -> str | None:  # noqa: FBT001 - one fact of three
    if busy:
        return "busy"
    if tried is None:
        return None
    if tried.count >= len(WAITS):
        return "given_up"
    return "waiting" if now < tried.ended_at + WAITS[tried.count] else None


def _runs(days: Sequence[date], most: int) -> list[tuple[date, ...]]:
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1) and len(runs[-1]) < most:
            runs[-1].append(day)
        else:
            runs.append([day])
    return [tuple(run) for run in runs]
