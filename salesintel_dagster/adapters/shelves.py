"""Dead letters, quarantine and the queue's entrance on SQS, behind the ports."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from salesintel_dagster.adapters.aws import AwsClient
from salesintel_dagster.adapters.queues import BATCH_ENTRIES, QueueAddress, SqsEventQueue, queued_message, sendable
from salesintel_dagster.domain.event_queue import QueueDepth
from salesintel_dagster.domain.message_shelf import (
    BodyRefused,
    MessageInlet,
    MessageShelf,
    ShelvedMessage,
)

LOOK_SECONDS = 1
"""A long poll asks every server of the queue: one that finds nothing means that nothing is there to be seen."""
TOO_LARGE = "a message of the queue has at most {} bytes"


class SqsShelf(MessageShelf):
    """The queue `name`."""

    def __init__(self, client: AwsClient, name: str) -> None:
        self._client = client
        self._queue = QueueAddress(client, name)
        self._held = SqsEventQueue(client, name, 0)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    def take(self, hold_seconds: int) -> list[ShelvedMessage]:
        """Return up to ten messages. Raises QueueUnavailable."""
        with self._queue.translated("receive"):
            answer = self._client.receive_message(
                QueueUrl=self._queue.url,
                MaxNumberOfMessages=BATCH_ENTRIES,
                WaitTimeSeconds=LOOK_SECONDS,
                VisibilityTimeout=hold_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [_shelved(found) for found in answer.get("Messages", ())]

    def give_back(self, messages: Collection[ShelvedMessage]) -> None:
        """Make them visible. Raises QueueUnavailable."""
        self._held.extend([one.message for one in messages], 0)

    def delete(self, messages: Collection[ShelvedMessage]) -> tuple[ShelvedMessage, ...]:
        """Delete them; return those that were refused. Raises QueueUnavailable."""
        refused = {one.message_id for one in self._held.delete([one.message for one in messages])}
        return tuple(one for one in messages if one.message_id in refused)

    def depth(self) -> QueueDepth:
        """Return the queue's approximate numbers. Raises QueueUnavailable."""
        return self._held.depth()


class SqsInlet(MessageInlet):
    """The queue `name`; what is larger than `max_bytes` it does not take."""

    def __init__(self, client: AwsClient, name: str, max_bytes: int) -> None:
        self._client = client
        self._queue = QueueAddress(client, name)
        self._max_bytes = max_bytes

    def send(self, bodies: Sequence[str]) -> tuple[BodyRefused, ...]:
        """Send the bodies, in as many calls as SQS needs. Raises QueueUnavailable."""
        large = [number for number, body in enumerate(bodies) if len(body.encode()) > self._max_bytes]
        refused = [BodyRefused(number, TOO_LARGE.format(self._max_bytes)) for number in large]
        entries = [
            {"Id": str(number), "MessageBody": body, "MessageAttributes": {}}
            for number, body in enumerate(bodies)
            if number not in large
        ]
        for batch in sendable(entries):
            with self._queue.translated("send"):
                answer = self._client.send_message_batch(QueueUrl=self._queue.url, Entries=batch)
            refused += [BodyRefused(int(one["Id"]), str(one.get("Code"))) for one in answer.get("Failed", ())]
        return tuple(refused)


def _shelved(found: dict[str, Any]) -> ShelvedMessage:
    attributes = found.get("MessageAttributes", {})
    texts = {name: str(one["StringValue"]) for name, one in attributes.items() if "StringValue" in one}
    return ShelvedMessage(queued_message(found), texts)
