"""Settings to sinks and to the redaction: the wiring that every alert goes through."""

from __future__ import annotations

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.settings import Settings

CLIENTS = AwsClients(AwsTarget("eu-west-1", "us-east-1"))
TOPIC = "arn:aws:sns:eu-west-1:123456789012:salesintel-alerts-dev"
HOOK = "https://hooks.example.com/services/canary-path"


def test_every_configured_sink_is_made_and_the_log_where_there_is_none():
    both = Settings.from_environment({"SALESINTEL_ALERT_TOPIC_ARN": TOPIC, "SALESINTEL_ALERT_WEBHOOK_URL": HOOK})
    assert list(wiring.alert_sinks(Settings(), CLIENTS)) == ["log"]
    assert list(wiring.alert_sinks(both, CLIENTS)) == ["sns", "webhook"]


def test_every_secret_of_the_settings_is_known_to_the_redaction():
    """I5"""
    settings = Settings.from_environment(
        {"SALESINTEL_CATALOG_URI": "postgresql+psycopg://u:canary-word@h/db", "SALESINTEL_ALERT_WEBHOOK_URL": HOOK}
    )
    redact = wiring.redaction(settings)
    assert "canary" not in redact(f"canary-word at {HOOK} and canary-path") + repr(settings)
