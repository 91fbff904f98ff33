"""What is worth an alert, what it says and which come next. Pure: nothing is read, sent or remembered here.

An `Incident` is raw and never leaves; only `alert_of` makes an `Alert` of it, and it takes a redaction, so that no
sink can be handed an unredacted text.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from salesintel_dagster.domain.checks import Severity

MAX_TEXT_CHARACTERS = 3_000
MAX_SUBJECT_CHARACTERS = 100
"""SNS refuses a longer subject."""
MAX_FACT_CHARACTERS = 500
MAX_FACTS = 9
MAX_ALERTS_PER_TICK = 10
FIRST_START_LOOKS_BACK = timedelta(days=1)
"""A sink that was never used is told of the last day, not of the history before it."""
SETTLE = timedelta(seconds=5)
"""Two writers may commit their events in another order than their ids: a newer id waits this long for an older."""
RETRY_COMES_WITHIN = timedelta(minutes=2)
"""Dagster's daemon looks every 5 s for runs to start again."""
FRESH_BY = time(4)
"""UTC. The nightly export starts at 03:00 and takes minutes."""
MAX_DEADLINES_PER_TICK = 30

WEBHOOK_URL = re.compile(
    r"(?:(?P<https>https)://(?P<host>[A-Za-z0-9._-]{1,253})|http://(?P<loopback>127\.0\.0\.1|localhost))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<target>/[!-~]*)?",
    re.ASCII,
)
"""https with a host name, or http on this machine; no user name, no space."""


class AlertKind(StrEnum):
    """Where incidents come from: each has its own positions, and is read from where it was left."""

    CHECK = "check"
    RUN = "run"
    FRESHNESS = "freshness"


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong, unredacted. `facts` are (label, text) in the order of reading; `link` is ours."""

    severity: Severity
    headline: str
    facts: tuple[tuple[str, str], ...]
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that was looked at, good (no incident) or bad.

    `position` grows within its kind: the event log's storage id, or the deadline's day as an ordinal.
    """

    kind: AlertKind
    position: int
    at: datetime
    incident: Incident | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What a sink sends. `id` is the same whenever the same incident is sent; `text` has no secret and is bounded."""

    id: str
    severity: Severity
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one sink has been told: everything up to and including these positions, by kind."""

    check: int
    run: int
    freshness: int

    def of(self, kind: AlertKind) -> int:
        """Return the last position of the kind that is settled."""
        return {AlertKind.CHECK: self.check, AlertKind.RUN: self.run, AlertKind.FRESHNESS: self.freshness}[kind]

    def past(self, seen: Seen) -> Reached:
        """Return this with `seen` settled too."""
        return replace(self, **{seen.kind.value: max(self.of(seen.kind), seen.position)})


def plan(seen: Collection[Seen], reached: Reached, now: datetime, at_most: int = MAX_ALERTS_PER_TICK) -> list[Seen]:
    """Return what a sink goes past next, oldest first, each once: at most `at_most` incidents and what lies between.

    Within a kind the order is that of the positions, whatever the clocks of the writers said.
    """
    waiting = [step for kind in AlertKind for step in _in_order(kind, seen, reached, now)]
    steps: list[Seen] = []
    incidents = 0
    for _, step in sorted(waiting, key=lambda pair: pair[0]):
        incidents += step.incident is not None
        if incidents > at_most:
            break
        steps.append(step)
    return steps


def _in_order(kind: AlertKind, seen: Collection[Seen], reached: Reached, now: datetime) -> list[tuple[datetime, Seen]]:
    fresh = {step.position: step for step in seen if step.kind is kind and step.position > reached.of(kind)}
    ordered: list[tuple[datetime, Seen]] = []
    for _, step in sorted(fresh.items()):
        if abs(now - step.at) < SETTLE:
            break
        ordered.append((max(step.at, ordered[-1][0]) if ordered else step.at, step))
    return ordered


def alert_of(seen: Seen, incident: Incident, redact: Callable[[str], str]) -> Alert:
    """Word an incident for a person: one line a fact, bounded, redacted, with nothing that could pass for a line."""

    def said(text: str, limit: int = MAX_FACT_CHARACTERS) -> str:
        return _cut(redact(_one_line(redact(text))), limit)

    identity = f"{seen.kind.value}-{seen.position}"
    subject = _cut(f"{incident.severity.value} {said(incident.headline)}", MAX_SUBJECT_CHARACTERS)
    facts = [f"{label}: {said(text)}" for label, text in incident.facts[:MAX_FACTS] if text]
    link = [f"link: {_cut(_one_line(incident.link), MAX_FACT_CHARACTERS)}"] if incident.link else []
    head = [subject, f"at: {seen.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", *link, f"alert: {identity}"]
    return Alert(identity, incident.severity, subject, _cut("\n".join(head + facts), MAX_TEXT_CHARACTERS))


def _one_line(text: str) -> str:
    """Turn control and format characters (line ends, direction marks) into spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def deadlines(reached: int, now: datetime) -> list[tuple[date, datetime]]:
    """Return the freshness deadlines after the ordinal day `reached` that have passed, oldest first."""
    last = _newest_deadline(now)
    days = [date.fromordinal(n) for n in range(reached + 1, min(last, reached + MAX_DEADLINES_PER_TICK) + 1)]
    return [(day, datetime.combine(day, FRESH_BY, tzinfo=UTC)) for day in days]


def first_reached(now: datetime, check: int, run: int) -> Reached:
    """Return where a sink that was never used begins; the event positions are the caller's to find."""
    return Reached(check, run, _newest_deadline(now - FIRST_START_LOOKS_BACK))


def _newest_deadline(now: datetime) -> int:
    return (now.astimezone(UTC) - timedelta(hours=FRESH_BY.hour)).date().toordinal()


def read_cursor(cursor: str | None) -> dict[str, Reached]:
    """Return how far each sink has been told; nothing for a cursor that is not ours."""
    try:
        held = json.loads(cursor or "{}")
        return {str(name): Reached(*(_position(at[kind.value]) for kind in AlertKind)) for name, at in held.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _position(given: object) -> int:
    if type(given) is not int:
        raise TypeError
    return given


def write_cursor(reached: dict[str, Reached]) -> str:
    """Return the cursor that `read_cursor` reads."""
    return json.dumps({name: {kind.value: at.of(kind) for kind in AlertKind} for name, at in sorted(reached.items())})


def incidents_in(steps: Sequence[Seen]) -> int:
    """Count what would be sent."""
    return sum(step.incident is not None for step in steps)


class AlertSink(ABC):
    """Where alerts go. Losing it delays an alert and never fails a run."""

    @abstractmethod
    def send(self, alert: Alert) -> None:
        """Hand over one alert within seconds; no second try. Raises AlertNotSent."""
