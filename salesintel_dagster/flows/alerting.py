"""Telling one sink what it has not been told: in order, stopping at the first that did not arrive.

What a sink was told is a value that the caller keeps. Nothing here fails: a dead sink is told later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from salesintel_dagster.domain.alerts import AlertSink, Reached, Seen, alert_of
from salesintel_dagster.domain.errors import AlertNotSent


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far the sink has been told, how many alerts that took, and what stopped it, if anything did."""

    reached: Reached
    sent: int
    problem: str | None = None


def deliver(
    sink: AlertSink,
    steps: Iterable[Seen],
    reached: Reached,
    redact: Callable[[str], str],
    may_go_on: Callable[[], bool],
) -> Delivery:
    """Send the incidents among `steps`, oldest first; at least one is tried, the rest while `may_go_on()`."""
    sent = 0
    for step in steps:
        if step.incident is not None:
            if sent and not may_go_on():
                return Delivery(reached, sent, "the tick's time is used up")
            try:
                sink.send(alert_of(step, step.incident, redact))
            except AlertNotSent as error:
                return Delivery(reached, sent, redact(str(error)))
            except Exception as error:  # noqa: BLE001 - a sink's bug must not take back what was sent before it
                return Delivery(reached, sent, f"{type(error).__name__} in the sink")
            sent += 1
        reached = reached.past(step)
    return Delivery(reached, sent)
