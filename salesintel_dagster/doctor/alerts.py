"""Checks of where alerts go: nothing is sent unless the doctor was told to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws_probes import topic_exists
from salesintel_dagster.adapters.notify import WebhookAlerts
from salesintel_dagster.doctor.patient import Patient
from salesintel_dagster.domain.alerts import Alert
from salesintel_dagster.domain.checks import Severity
from salesintel_dagster.domain.diagnosis import Check, Finding, fail, ok, warn
from salesintel_dagster.settings import Mode, variable_of

TOPIC, WEBHOOK = variable_of("alert_topic_arn"), variable_of("alert_webhook_url")
SEND = "--send-test-alert proves that it arrives"


def checks(patient: Patient) -> Iterator[Check]:
    """Yield a check a sink, or the one that says that there is none."""
    settings = patient.settings
    if settings.alert_topic_arn is None and settings.alert_webhook_url is None:
        yield Check("alerts", partial(no_sink, patient), f"set {TOPIC} or {WEBHOOK}")
    if settings.alert_topic_arn is not None:
        arn = settings.alert_topic_arn
        yield Check("alerts: SNS", partial(topic, patient, arn), f"check {TOPIC}; let this role do sns:Publish on it")
    if settings.alert_webhook_url is not None:
        url = settings.alert_webhook_url.get_secret_value()
        yield Check("alerts: webhook", partial(webhook, patient, url), f"check {WEBHOOK}, and the way out to its host")


def no_sink(patient: Patient) -> Finding:
    """Say that alerts go nowhere: on one's own machine that is usual."""
    if patient.settings.mode is Mode.EMBEDDED:
        return ok(f"only logged, as is usual on one's own machine; {TOPIC} or {WEBHOOK} sends them")
    return warn("no sink: alerts are only logged", f"set {TOPIC} (the template's output AlertsTopic) or {WEBHOOK}")


def topic(patient: Patient, arn: str) -> Finding:
    """Look whether the topic is there, or send a test alert to it."""
    if patient.send_test_alert:
        return _sent(patient, "sns", arn)
    there = topic_exists(patient.clients.client("sns"), arn)
    if there is False:
        return fail(f"no topic {arn}", f"set {TOPIC} to the template's output AlertsTopic (salesintel deploy --apply)")
    told = "is there" if there else "was not looked at (needs sns:GetTopicAttributes, which alerts do not)"
    return ok(f"{arn} {told}; {SEND}")


def webhook(patient: Patient, url: str) -> Finding:
    """Connect to the webhook's host, or send a test alert to it."""
    if patient.send_test_alert:
        return _sent(patient, "webhook", "the webhook")
    return ok(f"{WebhookAlerts(url).reach()} accepts connections; {SEND}")


def _sent(patient: Patient, sink: str, name: str) -> Finding:
    now = patient.clock.now()
    subject = f"WARN test alert of stage {patient.settings.stage}"
    text = f"{subject}\nat: {now:%Y-%m-%d %H:%M:%S} UTC\nSent by `salesintel doctor`. Nothing need be done."
    alert = Alert(f"doctor-{now.timestamp():.0f}", Severity.WARN, subject, text)
    wiring.alert_sinks(patient.settings, patient.clients)[sink].send(alert)
    return ok(f"{name} took a test alert")
