"""The event sync's ports and rules made from settings."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.queues import SqsEventQueue, SqsQuarantine
from salesintel_dagster.adapters.receipts import DynamoReceipts
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.event_queue import EventQueue
from salesintel_dagster.domain.receipts import Receipts
from salesintel_dagster.domain.sale_event import EventRules
from salesintel_dagster.flows.sync.parts import SyncParts, SyncRules
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import open_tables_catalog
from salesintel_dagster.wiring.sales import sales_repository


def event_queue(settings: Settings, clients: AwsClients) -> EventQueue:
    """Return the queue of sold events."""
    return SqsEventQueue(clients.client("sqs"), settings.event_queue_name, settings.event_visibility_seconds)


def receipts(settings: Settings, clients: AwsClients) -> Receipts:
    """Return the receipts of the last 24 hours."""
    return DynamoReceipts(clients.client("dynamodb"), settings.receipts_table_name, SYSTEM_CLOCK)


def sync_parts(settings: Settings, clients: AwsClients) -> SyncParts:
    """Return everything that the sync works with."""
    return SyncParts(
        event_queue(settings, clients),
        SqsQuarantine(clients.client("sqs"), settings.event_quarantine_name),
        receipts(settings, clients),
        sales_repository(settings, clients),
        IcebergHistoryTable(lambda: open_tables_catalog(settings), SYSTEM_CLOCK),
    )


def sync_rules(settings: Settings) -> SyncRules:
    """Return what an event may hold and how the queue is drained."""
    return SyncRules(
        EventRules(
            settings.tenants_of_events,
            settings.default_currency,
            settings.zone,
            settings.embedding_model,
            settings.hemisphere,
            settings.embedding_dimension,
        ),
        batch_messages=settings.event_batch_messages,
        gather_seconds=settings.event_gather_seconds,
        idle_seconds=settings.event_idle_seconds,
        deadline_seconds=settings.event_run_seconds,
        visibility_seconds=settings.event_visibility_seconds,
    )
