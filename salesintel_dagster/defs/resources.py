"""What the assets are given: the ports of `domain.ports`, each made by `wiring` when a run first needs it.

A description names what the port stands on in this deployment, so that the UI answers "which database was that?".
Secrets appear in none: the database's come from SSM at run time, the catalog's from an environment variable.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import dagster as dg

from salesintel_dagster import wiring
from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.defs.io_managers import NoValuesIOManager
from salesintel_dagster.defs.leaving import Redact, leaving
from salesintel_dagster.domain.metrics import NAMESPACE
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import embedding_cost, enrichment, event_checks, events, metrics, sales
from salesintel_dagster.wiring.sources import sale_source


class Part(NamedTuple):
    """How a port is made, and what stands behind it here."""

    make: Callable[[], object]
    description: str


def build(settings: Settings) -> dict[str, object]:
    """Return the resources by the names that the assets ask for."""

    @cache
    def clients() -> AwsClients:
        return wiring.aws_clients(settings)

    where = settings.object_folder or f"s3://{settings.bucket_name}"
    redact = wiring.redaction(settings)
    made = {
        "smartgo_db": Part(
            lambda: sale_source(settings, clients()),
            f"SmartGo's sales database, as the SSM parameter {settings.smartgo_parameter} describes it.",
        ),
        "image_host": Part(
            lambda: wiring.image_fetcher(settings),
            f"Product image download: at most {settings.max_image_bytes} bytes an image, public addresses only"
            + (f" and {', '.join(settings.image_hosts_allowed)}." if settings.image_hosts_allowed else "."),
        ),
        "bedrock": Part(
            lambda: wiring.embedder(settings, clients()),
            f"Image embeddings: model {settings.embedding_model}, {settings.embedding_dimension} floats, "
            f"region {settings.bedrock_region}.",
        ),
        "analytics": Part(
            lambda: wiring.object_store(settings, clients()),
            f"Object store {where}: images, vectors, staged days, quarantine.",
        ),
        "lakehouse": Part(
            lambda: wiring.sales_table(settings),
            f"Iceberg table pricing_intelligence.smartgo_sales, catalog {settings.catalog.value}, "
            f"warehouse {settings.warehouse_uri}.",
        ),
        "table_keepers": Part(
            lambda: wiring.table_keepers(settings),
            f"Upkeep of the Iceberg tables of catalog {settings.catalog.value}, warehouse {settings.warehouse_uri}.",
        ),
        "dynamodb": Part(
            lambda: wiring.progress_ledger(settings, clients()),
            f"DynamoDB table {settings.progress_table_name}: export progress by day and run.",
        ),
        "cloudwatch": Part(
            lambda: metrics.metric_sink(settings, clients()),
            f"CloudWatch namespace {NAMESPACE}, stage {settings.stage}: each day's metrics.",
        ),
        "embedding_spend": Part(
            lambda: embedding_cost.spend_ledger(settings, clients()),
            f"DynamoDB table {settings.progress_table_name}: what all runs of a day spent on embeddings, "
            f"at most {settings.embedding_budget_day_usd} USD.",
        ),
        "sales_ttl_store": Part(
            lambda: sales.ttl_store(settings, clients()),
            f"DynamoDB table {settings.sales_table_name} as the TTL backfill sees it: all tenants' items.",
        ),
        **_of_events(settings, clients),
        **_of_enrichment(settings, clients),
    }
    return {
        **{name: _resource(part, redact) for name, part in made.items()},
        "io_manager": NoValuesIOManager(),
    }


def _of_events(settings: Settings, clients: Callable[[], AwsClients]) -> dict[str, Part]:
    return {
        "sold_events": Part(
            lambda: events.event_queue(settings, clients()),
            f"SQS queue {settings.event_queue_name}: sold events that wait.",
        ),
        "event_sync": Part(
            lambda: events.sync_parts(settings, clients()),
            f"From queue {settings.event_queue_name} into DynamoDB table {settings.sales_table_name} and Iceberg table "
            f"pricing_intelligence.sales_history; quarantine {settings.event_quarantine_name}, receipts "
            f"{settings.receipts_table_name}.",
        ),
        "sold_event_queues": Part(
            lambda: event_checks.event_queue_watch(settings, clients()),
            f"How SQS queues {settings.event_queue_name}, {settings.event_dlq_name} and "
            f"{settings.event_quarantine_name} stand. Receives nothing.",
        ),
        "history_facts": Part(
            lambda: event_checks.history_facts(settings),
            "What the daily checks ask of Iceberg table pricing_intelligence.sales_history as a whole.",
        ),
        "reconciliation": Part(
            lambda: event_checks.reconciliation(settings, clients()),
            f"Iceberg table pricing_intelligence.sales_history beside DynamoDB table {settings.sales_table_name}.",
        ),
    }


def _of_enrichment(settings: Settings, clients: Callable[[], AwsClients]) -> dict[str, Part]:
    return {
        "enrichment_ledger": Part(
            lambda: enrichment.enrichment_ledger(settings, clients()),
            f"DynamoDB table {settings.enrichment_table_name}: enrichment jobs, batches, token levels.",
        ),
        "enrichment_queue": Part(
            lambda: enrichment.enrichment_queue(settings, clients()),
            f"SQS queue {settings.enrichment_queue_name}: batches that wait.",
        ),
        "enrichment_dead_letters": Part(
            lambda: enrichment.enrichment_dead_letters(settings, clients()),
            f"SQS queue {settings.enrichment_dlq_name}: batches that no worker survived.",
        ),
        "keepa": Part(
            lambda: enrichment.enrichment_provider(settings),
            f"Product facts from {settings.keepa_url}, Amazon locale {settings.keepa_domain}, "
            f"at most {settings.enrichment_request_products} products a request.",
        ),
        "enrichment_table": Part(
            lambda: enrichment.enrichment_table(settings),
            f"Iceberg table pricing_intelligence.product_enrichment, catalog {settings.catalog.value}, "
            f"warehouse {settings.warehouse_uri}.",
        ),
    }


def _resource(part: Part, redact: Redact) -> dg.ResourceDefinition:
    @leaving(redact)
    def made(_context: dg.InitResourceContext) -> object:
        return part.make()

    return dg.ResourceDefinition(made, description=part.description)
