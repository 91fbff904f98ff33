"""The sales source that the SSM parameter describes, and how often it is asked."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.parameters import read_source_config
from salesintel_dagster.adapters.rest_sales import RestSource
from salesintel_dagster.adapters.smartgo import SmartGoSource
from salesintel_dagster.adapters.source_config import MYSQL, ApiConfig, DatabaseConfig, SourceConfig
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.ports import SaleSource
from salesintel_dagster.domain.retry import SOURCE_RETRY, RetryPolicy
from salesintel_dagster.settings import Settings


def sale_source(settings: Settings, clients: AwsClients) -> SaleSource:
    """Return the source that the SSM parameter describes. Raises SettingInvalid where it describes none."""
    return source_of(read_source_config(clients.client("ssm"), settings.smartgo_parameter), settings.default_currency)


def source_of(config: SourceConfig, default_currency: str) -> SaleSource:
    """Return the source of the config's kind. Raises SettingInvalid where its driver is not installed."""
    if isinstance(config, ApiConfig):
        return RestSource(config.parameters, config.mapping, default_currency)
    if config.kind == MYSQL:
        return _mysql_source(config, default_currency)
    return SmartGoSource(config.connection, config.mapping, default_currency)


def _mysql_source(config: DatabaseConfig, default_currency: str) -> SaleSource:
    try:
        from salesintel_dagster.adapters.mysql import MySqlSource  # noqa: PLC0415 - its driver is an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pymysql":
            raise
        raise SettingInvalid(
            "a source of kind mysql needs the [mysql] extra: pip install 'salesintel-dagster[mysql]'"
        ) from None
    return MySqlSource(config.connection, config.mapping, default_currency)


def source_retry(settings: Settings) -> RetryPolicy:
    """Return how often a day is read again when the source breaks off."""
    return RetryPolicy(settings.source_retries, SOURCE_RETRY.base_seconds, settings.source_deadline_seconds)
