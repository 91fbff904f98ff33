"""An alert sink in memory, scripted with what happens at each send."""

from __future__ import annotations

from collections.abc import Callable

from salesintel_dagster.domain.alerts import Alert, AlertSink
from salesintel_dagster.domain.errors import AlertNotSent


class InMemoryAlerts(AlertSink):
    """`sent` is every alert that arrived, in order; `down = True` makes every send fail; `before` runs first."""

    def __init__(self, *, down: bool = False, before: Callable[[], None] | None = None) -> None:
        self.down = down
        self.before = before
        self.sent: list[Alert] = []
        self.attempts = 0

    def send(self, alert: Alert) -> None:
        self.attempts += 1
        if self.before is not None:
            self.before()
        if self.down:
            raise AlertNotSent("the sink is down")
        self.sent.append(alert)
