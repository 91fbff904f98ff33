"""The sales source that the SSM parameter describes, and how often it is asked."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.parameters import read_database_config
from salesintel_dagster.adapters.smartgo import SmartGoSource
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.settings import Settings


def sale_source(settings: Settings, clients: AwsClients) -> SaleSource:
    """Return the source that the SSM parameter names. Raises SettingInvalid where it names none."""
    config = read_database_config(clients.client("ssm"), settings.smartgo_parameter)
    return SmartGoSource(config.connection, config.mapping, settings.default_currency)


def source_retry(settings: Settings) -> RetryPolicy:
    """Return how often a day is read again when the source breaks off."""
    return RetryPolicy(settings.source_retries, SOURCE_RETRY.base_seconds, settings.source_deadline_seconds)
