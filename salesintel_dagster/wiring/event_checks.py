"""What the checks and the repair of `sales_history` work with, made from settings."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.history_facts import IcebergHistoryFacts
from salesintel_dagster.adapters.history_table import IcebergHistoryTable
from salesintel_dagster.adapters.queue_states import SqsEventQueueWatch
from salesintel_dagster.domain.clock import SYSTEM_CLOCK
from salesintel_dagster.domain.event_queues import EventQueueWatch
from salesintel_dagster.domain.history_facts import HistoryFacts
from salesintel_dagster.flows.sync.reconcile import SETTLE_SECONDS, Reconciliation
from salesintel_dagster.settings import Settings
from salesintel_dagster.wiring import open_tables_catalog
from salesintel_dagster.wiring.events import receipts
from salesintel_dagster.wiring.sales import sales_repository


def event_queue_watch(settings: Settings, clients: AwsClients) -> EventQueueWatch:
    """Return the look at the three queues."""
    names = (settings.event_queue_name, settings.event_dlq_name, settings.event_quarantine_name)
    sqs, cloudwatch = clients.client("sqs"), clients.client("cloudwatch", brief=True)
    return SqsEventQueueWatch(sqs, cloudwatch, names, SYSTEM_CLOCK)


def history_facts(settings: Settings) -> HistoryFacts:
    """Return what is asked of the table as a whole."""
    return IcebergHistoryFacts(lambda: open_tables_catalog(settings))


def reconciliation(settings: Settings, clients: AwsClients, settle_seconds: float = SETTLE_SECONDS) -> Reconciliation:
    """Return the comparison of both stores."""
    table = IcebergHistoryTable(lambda: open_tables_catalog(settings), SYSTEM_CLOCK)
    parts = (sales_repository(settings, clients), table, receipts(settings, clients))
    return Reconciliation(*parts, SYSTEM_CLOCK, settle_seconds)
