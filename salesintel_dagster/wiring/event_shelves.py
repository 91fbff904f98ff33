"""What a person needs around the event sync, made from settings: the bus, the shelves, both stores side by side."""

from __future__ import annotations

from salesintel_dagster.adapters.aws import AwsClients
from salesintel_dagster.adapters.event_bus import EventBridgeBus
from salesintel_dagster.adapters.shelves import SqsInlet, SqsShelf
from salesintel_dagster.domain.event_bus import EventBus
from salesintel_dagster.domain.message_shelf import MessageInlet, MessageShelf
from salesintel_dagster.domain.sale_event import MAX_EVENT_BYTES
from salesintel_dagster.settings import Settings


def event_bus(clients: AwsClients) -> EventBus:
    """Return the account's default bus."""
    return EventBridgeBus(clients.client("events"))


def dead_letters(settings: Settings, clients: AwsClients) -> MessageShelf:
    """Return the events that were received too often."""
    return SqsShelf(clients.client("sqs"), settings.event_dlq_name)


def event_quarantine(settings: Settings, clients: AwsClients) -> MessageShelf:
    """Return the events that no store takes."""
    return SqsShelf(clients.client("sqs"), settings.event_quarantine_name)


def event_inlet(settings: Settings, clients: AwsClients) -> MessageInlet:
    """Return the way onto the queue of sold events."""
    return SqsInlet(clients.client("sqs"), settings.event_queue_name, MAX_EVENT_BYTES)
