"""Which promises a day's data must keep, and what a verdict on one of them says. Pure rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MAX_OFFENDERS_NAMED = 20
"""Ids named in a verdict; the rest are counted."""


class Severity(StrEnum):
    """WARN is for a look in the morning; ERROR is for now."""

    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Promise:
    """One asset check as the UI lists it. A blocking one stops the stages after it, for that day only."""

    name: str
    stage: str
    description: str
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was expected, what was found, and whose fault it is (first `MAX_OFFENDERS_NAMED` ids)."""

    promise: Promise
    passed: bool
    severity: Severity
    expected: str
    found: str
    offenders: tuple[str, ...] = ()
    facts: Mapping[str, int | float | str] = field(default_factory=dict)

    def sentence(self) -> str:
        """Return the verdict as one line for a log, an error or an alert."""
        named = f" ({', '.join(self.offenders)})" if self.offenders else ""
        return f"{self.promise.stage}.{self.promise.name}: expected {self.expected}, found {self.found}{named}"


def verdict(
    promise: Promise,
    *,
    expected: str,
    found: str,
    offenders: list[str],
    severity: Severity = Severity.ERROR,
) -> Verdict:
    """Judge a promise that holds exactly when nobody breaks it: `offenders` are those who do."""
    return Verdict(
        promise,
        passed=not offenders,
        severity=severity,
        expected=expected,
        found=found,
        offenders=tuple(offenders[:MAX_OFFENDERS_NAMED]),
        facts={"offenders": len(offenders)},
    )


def share_verdict(promise: Promise, *, part: int, whole: int, warn_share: float, error_share: float) -> Verdict:
    """Judge a share that may grow up to `warn_share`, is a warning above it and an error above `error_share`."""
    share = part / whole if whole else 0.0
    return Verdict(
        promise,
        passed=share <= warn_share,
        severity=Severity.ERROR if share > error_share else Severity.WARN,
        expected=f"at most {warn_share:.1%}",
        found=f"{part} of {whole} ({share:.1%})",
        facts={"share": round(share, 6), "part": part, "whole": whole},
    )
