"""The default EventBridge bus of the account, behind the port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, told
from salesintel_dagster.domain.errors import EventBusUnavailable
from salesintel_dagster.domain.event_bus import EventBus, NotPut, OutgoingEvent
from salesintel_dagster.domain.sale_event import EVENT_SOURCE, EVENT_TYPE

TRANSIENT = frozenset({"ThrottlingException", "InternalFailure", "InternalException", "ServiceUnavailable"})
"""Codes of single entries after which the same entry may be taken."""


class EventBridgeBus(EventBus):
    """PutEvents answers 200 even where it took none: every entry's answer is read."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    def put(self, events: Sequence[OutgoingEvent]) -> tuple[NotPut, ...]:
        """Put the events in one call. Raises EventBusUnavailable."""
        try:
            answer = self._client.put_events(Entries=[_entry(event) for event in events])
        except (ClientError, BotoCoreError) as error:
            raise EventBusUnavailable(f"put events on the default bus: {told(error)}") from error
        if not answer.get("FailedEntryCount"):
            return ()
        return tuple(
            NotPut(event, str(told_of["ErrorCode"]), str(told_of["ErrorCode"]) in TRANSIENT)
            for event, told_of in zip(events, answer["Entries"], strict=True)
            if told_of.get("ErrorCode")
        )


def _entry(event: OutgoingEvent) -> dict[str, Any]:
    time = {"Time": event.time} if event.time else {}
    return {"Source": EVENT_SOURCE, "DetailType": EVENT_TYPE, "Detail": event.detail, **time}
