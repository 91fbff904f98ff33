"""How adapters and rules are put together. The one place for the assets and for the command line.

Nothing here reads the environment, and nothing touches the network before a port's method is called, except
`sources.sale_source`, which asks SSM where the sales are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from salesintel_dagster.adapters.aws import AwsClients, AwsTarget
from salesintel_dagster.adapters.catalogs import StorageAccess, open_catalog
from salesintel_dagster.adapters.commit_attempts import translated
from salesintel_dagster.adapters.folder_store import FolderObjectStore
from salesintel_dagster.adapters.http_images import HttpImageFetcher
from salesintel_dagster.adapters.lakehouse import COMMIT_RETRY, IcebergSalesTable
from salesintel_dagster.adapters.notify import LoggedAlerts, SnsAlerts, WebhookAlerts
from salesintel_dagster.adapters.object_store import S3ObjectStore
from salesintel_dagster.adapters.progress import DynamoProgressLedger
from salesintel_dagster.adapters.sql_reader import query
from salesintel_dagster.adapters.table_layout import TABLES
from salesintel_dagster.adapters.table_upkeep import IcebergTableKeeper
from salesintel_dagster.adapters.titan import TitanEmbedder
from salesintel_dagster.domain.alerts import AlertSink
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.ports import (
    Embedder,
    ImageFetcher,
    ObjectStore,
    ProgressLedger,
    SalesTable,
)
from salesintel_dagster.domain.redaction import Redaction
from salesintel_dagster.domain.retry import RetryPolicy
from salesintel_dagster.domain.spend import SpendLedger
from salesintel_dagster.domain.table_keeper import TableKeeper
from salesintel_dagster.flows.export.backfill import SOURCE_SYSTEM
from salesintel_dagster.flows.export.day import ExportRules
from salesintel_dagster.flows.export.images import ImageLimits
from salesintel_dagster.flows.export.quarantine import Quarantine
from salesintel_dagster.settings import Catalog as CatalogKind
from salesintel_dagster.settings import Settings, variable_of
from salesintel_dagster.wiring.embedding_cost import embedding_limits
from salesintel_dagster.wiring.sources import source_retry

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

S3_TABLES_SIGNING = "s3tables"


def aws_clients(settings: Settings) -> AwsClients:
    """Return the AWS clients of this deployment; credentials come from boto3's own chain."""
    return AwsClients(
        AwsTarget(
            settings.aws_region, settings.bedrock_region, settings.aws_endpoint_url, settings.bedrock_endpoint_url
        )
    )


def object_store(settings: Settings, clients: AwsClients) -> ObjectStore:
    """Return the analytics bucket, or the folder that stands for it."""
    if settings.object_folder is not None:
        return FolderObjectStore(Path(settings.object_folder))
    return S3ObjectStore(clients.client("s3"), settings.bucket_name, settings.object_encryption)


def image_fetcher(settings: Settings) -> ImageFetcher:
    """Return the guarded image downloader."""
    return HttpImageFetcher(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        allowed_private=frozenset(settings.image_hosts_allowed),
    )


def embedder(settings: Settings, clients: AwsClients) -> Embedder:
    """Return Amazon Titan behind the Bedrock runtime."""
    return TitanEmbedder(
        clients.client("bedrock-runtime"),
        settings.embedding_model,
        settings.embedding_dimension,
        settings.max_model_image_bytes,
    )


def open_tables_catalog(settings: Settings) -> Catalog:
    """Open the Iceberg catalog that the settings name. Raises SettingInvalid where the SQL catalog has no URI."""
    uri = settings.catalog_uri.get_secret_value() if settings.catalog_uri else None
    if uri is None and settings.catalog is not CatalogKind.GLUE:
        raise SettingInvalid(
            f"{variable_of('catalog_uri')}: the {settings.catalog.value} catalog needs it; "
            "in embedded mode `salesintel up` and every salesintel command set it"
        )
    return open_catalog(
        settings.catalog.value,
        uri=uri,
        warehouse=settings.warehouse_uri,
        access=_storage_access(settings),
        signing_name=settings.catalog_signing_name,
    )


def _storage_access(settings: Settings) -> StorageAccess:
    if settings.aws_endpoint_url is None:
        return StorageAccess(settings.aws_region)
    frozen = aws_clients(settings).credentials()
    return StorageAccess(settings.aws_region, settings.aws_endpoint_url, frozen.access_key, frozen.secret_key)


def sales_table(settings: Settings) -> SalesTable:
    """Return the Iceberg table smartgo_sales in the configured catalog."""
    retry = RetryPolicy(settings.commit_retries, COMMIT_RETRY.base_seconds, COMMIT_RETRY.deadline_seconds)
    return IcebergSalesTable(lambda: open_tables_catalog(settings), SYSTEM_CLOCK, retry=retry)


def table_keepers(settings: Settings) -> tuple[TableKeeper, ...]:
    """Return the upkeep of every Iceberg table of this deployment."""
    managed = settings.catalog is CatalogKind.REST and settings.catalog_signing_name == S3_TABLES_SIGNING
    return tuple(
        IcebergTableKeeper(lambda: open_tables_catalog(settings), SYSTEM_CLOCK, name, managed=managed)
        for name in TABLES
    )


def query_tables(settings: Settings, statement: str) -> pa.RecordBatchReader:
    """Run one SELECT over the Iceberg tables and stream its answer. Raises QueryRefused, TableUnavailable."""
    with translated():
        return query(open_tables_catalog(settings), statement)


def progress_ledger(settings: Settings, clients: AwsClients) -> ProgressLedger:
    """Return the export progress table."""
    return DynamoProgressLedger(clients.client("dynamodb", brief=True), settings.progress_table_name)


def alert_sinks(settings: Settings, clients: AwsClients) -> dict[str, AlertSink]:
    """Return the configured alert sinks by name; where there is none, `log` alone."""
    sinks: dict[str, AlertSink] = {}
    if settings.alert_topic_arn is not None:
        sinks["sns"] = SnsAlerts(clients.client("sns", brief=True), settings.alert_topic_arn)
    if settings.alert_webhook_url is not None:
        sinks["webhook"] = WebhookAlerts(settings.alert_webhook_url.get_secret_value())
    return sinks or {"log": LoggedAlerts()}


def redaction(settings: Settings) -> Redaction:
    """Return the removal of secrets, told of every secret among the settings."""
    held = (getattr(settings, name) for name in Settings.model_fields)
    return Redaction(value.get_secret_value() for value in held if isinstance(value, SecretStr))


def quarantine(store: ObjectStore) -> Quarantine:
    """Return the rows that the export did not take."""
    return Quarantine(store, SOURCE_SYSTEM)


def export_rules(settings: Settings, spend: SpendLedger) -> ExportRules:
    """Return the limits and thresholds of one run; its embedding budget is shared by all its days."""
    images = RetryPolicy(settings.image_retries, settings.image_retry_base_seconds, settings.image_deadline_seconds)
    return ExportRules(
        ImageLimits(settings.image_concurrency, settings.image_concurrency_per_host, images),
        embedding_limits(settings, spend),
        settings.hemisphere,
        settings.null_vector_warn_share,
        settings.null_vector_error_share,
        source=source_retry(settings),
    )
