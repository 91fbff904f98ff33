"""How the enrichment is put together from the settings. Nothing here touches the network before a port is used."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.enrichment_ledger import (
    DynamoEnrichmentBatches,
    DynamoEnrichmentJobs,
    DynamoTokenLevels,
    DynamoUnfinishedJobs,
    StatusTable,
)
from salesintel_dagster.adapters.enrichment_paid_rows import DynamoPaidRows
from salesintel_dagster.adapters.enrichment_queue import SqsBatchQueue
from salesintel_dagster.adapters.enrichment_table import IcebergEnrichmentTable
from salesintel_dagster.adapters.keepa import KEY_SETTING, KeepaProvider
from salesintel_dagster.adapters.shelves import SqsShelf
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.enrichment.ports import BatchQueue, EnrichmentProvider, EnrichmentTable
from salesintel_dagster.domain.errors import SettingInvalid
from salesintel_dagster.domain.message_shelf import MessageShelf
from salesintel_dagster.flows.enrichment.parts import LEASE_SECONDS, EnrichmentLedger, WorkLimits
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import open_tables_catalog


def enrichment_ledger(settings: Settings, clients: AwsClients) -> EnrichmentLedger:
    """Return the status table's five sides."""
    table = StatusTable(clients.client("dynamodb"), settings.enrichment_table_name)
    return EnrichmentLedger(
        DynamoEnrichmentJobs(table),
        DynamoUnfinishedJobs(table),
        DynamoEnrichmentBatches(table),
        DynamoTokenLevels(table),
        DynamoPaidRows(table),
    )


def enrichment_queue(settings: Settings, clients: AwsClients) -> BatchQueue:
    """Return the queue of batches."""
    return SqsBatchQueue(clients.client("sqs"), settings.enrichment_queue_name, LEASE_SECONDS)


def enrichment_dead_letters(settings: Settings, clients: AwsClients) -> BatchQueue:
    """Return the queue of messages that were received too often."""
    return SqsBatchQueue(clients.client("sqs"), settings.enrichment_dlq_name, LEASE_SECONDS)


def enrichment_shelf(settings: Settings, clients: AwsClients) -> MessageShelf:
    """Return the same, for a person to look at."""
    return SqsShelf(clients.client("sqs"), settings.enrichment_dlq_name)


def enrichment_provider(settings: Settings) -> EnrichmentProvider:
    """Return Keepa, or the stand-in at the configured address. Raises SettingInvalid where there is no key."""
    if settings.keepa_key is None:
        raise SettingInvalid(f"{KEY_SETTING}: enrichment needs Keepa's API key; `salesintel up` sets one for its own")
    return KeepaProvider(
        url=settings.keepa_url,
        key=settings.keepa_key.get_secret_value(),
        domain=settings.keepa_domain,
        max_per_request=settings.enrichment_request_products,
        deadline_seconds=settings.enrichment_deadline_seconds,
    )


def enrichment_table(settings: Settings) -> EnrichmentTable:
    """Return the Iceberg table product_enrichment in the configured catalog."""
    return IcebergEnrichmentTable(lambda: open_tables_catalog(settings), SYSTEM_CLOCK)


def work_limits(settings: Settings) -> WorkLimits:
    """Return how much a worker does at once."""
    return WorkLimits(concurrency=settings.enrichment_concurrency, attempts=settings.enrichment_attempts)
