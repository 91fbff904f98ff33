"""What `salesintel doctor` finds out: one value per check, and what to do about it. Pure; a check is asked in flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

DEADLINE_SECONDS = 30.0
"""Of one check. A service that is gone costs a brief AWS client 10 s."""


class Health(StrEnum):
    """FAIL: an export would fail or lose its alerts; WARN: it works, but not as it should be run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in one sentence, and what to do: the setting, the command or the IAM action by its name."""

    health: Health
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to ask. `ask` raises a SalesIntelError where it could not; `remedy` is what to do then."""

    name: str
    ask: Callable[[], Finding]
    remedy: str
    deadline_seconds: float = DEADLINE_SECONDS


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A check and what came of it. No text in it has a secret."""

    name: str
    health: Health
    found: str
    remedy: str
    seconds: float


def ok(found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(Health.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """Return a finding that can wait for office hours."""
    return Finding(Health.WARN, found, remedy)


def fail(found: str, remedy: str) -> Finding:
    """Return a finding that cannot wait."""
    return Finding(Health.FAIL, found, remedy)


def ill(diagnoses: list[Diagnosis]) -> bool:
    """Tell whether any check failed."""
    return any(one.health is Health.FAIL for one in diagnoses)
