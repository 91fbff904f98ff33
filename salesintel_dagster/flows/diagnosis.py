"""Asking every check of `salesintel doctor`: all at once, each with its deadline, none stopped by another's failure."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.domain.diagnosis import Check, Diagnosis, Finding, fail
from salesintel_dagster.domain.errors import SalesIntelError

DEFECT = "report this: a check ended by an error that it does not know"


def examine(checks: Sequence[Check], redact: Callable[[str], str], clock: Clock = SYSTEM_CLOCK) -> Iterator[Diagnosis]:
    """Yield one diagnosis a check, in the checks' order, as soon as it is known.

    A check that has not ended at its deadline is a failure; its thread is left to end by itself.
    """
    began = clock.monotonic()
    asked = [_begin(check, clock) for check in checks]
    for check, answer in zip(checks, asked, strict=True):
        remaining = began + check.deadline_seconds - clock.monotonic()
        try:
            finding, ended = answer.get(timeout=max(remaining, 0.001))
        except queue.Empty:
            finding = fail(f"no answer within {check.deadline_seconds:g} s", check.remedy)
            ended = clock.monotonic()
        found, remedy = redact(finding.found), redact(finding.remedy)
        yield Diagnosis(check.name, finding.health, found, remedy, round(ended - began, 3))


def _begin(check: Check, clock: Clock) -> queue.SimpleQueue[tuple[Finding, float]]:
    """Ask a check in a thread of its own, which holds up no exit of the process."""
    answer: queue.SimpleQueue[tuple[Finding, float]] = queue.SimpleQueue()

    def ask() -> None:
        answer.put((_finding(check), clock.monotonic()))

    threading.Thread(target=ask, name=f"doctor: {check.name}", daemon=True).start()
    return answer


def _finding(check: Check) -> Finding:
    try:
        return check.ask()
    except SalesIntelError as error:
        return fail(str(error), check.remedy)
    except Exception as error:  # noqa: BLE001 - one check's defect hides no other check; a text may hold a secret
        return fail(f"the check itself failed: {type(error).__name__}", DEFECT)
