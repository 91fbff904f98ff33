"""The one sensor that tells people: failed check evaluations, failed runs, a day that is not there at 04:00 UTC.

A failing check that does not block leaves its run green, so no run-failure sensor would ever fire: this one reads the
event log itself. Its cursor says for each sink how far it has been told, and goes past an incident only when that
sink has taken it. The tick's time is bounded well below the 60 s after which Dagster would forget the cursor.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.defs.incidents import IncidentLog
from salesintel_dagster.defs.leaving import leaving
from salesintel_dagster.domain.alerts import AlertSink, Reached, Seen, incidents_in, plan, read_cursor, write_cursor
from salesintel_dagster.domain.clock import SYSTEM_CLOCK, Clock
from salesintel_dagster.flows.alerting import Delivery, deliver
from salesintel_dagster.settings import Settings, variable_of

SENSOR = "alerts"
TICK_SECONDS = 20
"""No second alert is begun after this. The last one may take 20 s more (SNS, two tries), 10 s a webhook."""
INTERVAL_SECONDS = 30
log = logging.getLogger("salesintel.alerts")

Sinks = Mapping[str, AlertSink]


def build(
    settings: Settings, *, sinks: Callable[[], Sinks] | None = None, clock: Clock = SYSTEM_CLOCK
) -> dg.Definitions:
    """Return the sensor; `sinks` replaces the configured ones (tests, other wirings)."""
    sinks_of_tick = cache(sinks or (lambda: wiring.alert_sinks(settings, wiring.aws_clients(settings))))
    redact = wiring.redaction(settings)

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the alert sinks of failed checks, failed runs and a day that is missing at 04:00 UTC.",
    )
    @leaving(redact)
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        told = tick(IncidentLog(context.instance, settings), sinks_of_tick(), context.cursor, redact, clock)
        context.update_cursor(write_cursor({name: delivery.reached for name, delivery in told.items()}))
        return dg.SkipReason(sentence(told))

    return dg.Definitions(sensors=[alerts])


def tick(
    incidents: IncidentLog, sinks: Sinks, cursor: str | None, redact: Callable[[str], str], clock: Clock
) -> dict[str, Delivery]:
    """Tell each sink what it has not been told. Everything is read before anything is sent.

    A reader that fails then fails the tick before a sink has taken what the lost cursor would send again.
    """
    began = clock.monotonic()
    reached, steps = _planned(incidents, sinks, cursor, clock)
    told: dict[str, Delivery] = {}
    for number, (name, sink) in enumerate(sinks.items(), start=1):
        share_ends = began + TICK_SECONDS * number / len(sinks)

        def may_go_on(share_ends: float = share_ends) -> bool:
            return clock.monotonic() < share_ends

        told[name] = deliver(sink, steps[name], reached[name], redact, may_go_on)
        if told[name].problem is not None:
            waiting = incidents_in(steps[name]) - told[name].sent
            log.warning("Alerts wait for %s: %s; waiting=%s at least", name, told[name].problem, waiting)
    return told


def _planned(
    incidents: IncidentLog, sinks: Sinks, cursor: str | None, clock: Clock
) -> tuple[dict[str, Reached], dict[str, list[Seen]]]:
    now = clock.now()
    newest = incidents.newest()
    known = {name: at for name, at in read_cursor(cursor).items() if max(at.check, at.run) <= newest}
    reached = {name: known[name] if name in known else incidents.begin(now) for name in sinks}
    return reached, {name: plan(list(incidents.after(at, now)), at, now) for name, at in reached.items()}


def sentence(told: Mapping[str, Delivery]) -> str:
    """Say what the tick did, for the sensor's page."""
    if "log" in told:
        names = " or ".join(variable_of(name) for name in ("alert_topic_arn", "alert_webhook_url"))
        return f"No alert sink is configured: {told['log'].sent} alerts were only logged; set {names}."
    parts = [
        f"{name}: sent {delivery.sent}" + (f", then {delivery.problem}" if delivery.problem else "")
        for name, delivery in told.items()
    ]
    return "; ".join(parts) + "."
