"""Sold events and their quarantine on SQS, behind the queue ports.

SQS answers a batch call with 200 even where it refused some entries: every answer's `Failed` list is read. A receipt
handle that the service no longer takes belongs to a message that came again elsewhere: it counts as gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from salesintel_dagster.adapters.aws import AwsClient, code_of, told
from salesintel_dagster.domain.errors import QueueUnavailable
from salesintel_dagster.domain.event_queue import EventQueue, Quarantined, QuarantineQueue, QueueDepth, QueuedMessage

BATCH_ENTRIES = 10
"""Entries that SQS takes in one batch call and gives in one receive."""
MAX_BATCH_BYTES = 1024 * 1024
"""All bodies and attributes of one SendMessageBatch."""
MAX_WAIT_SECONDS = 20
GONE = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})
"""Codes for a handle whose visibility ended: AWS mostly takes it all the same, the emulator refuses it."""
MISSING = frozenset({"NonExistentQueue", "QueueDoesNotExist"})
_DEPTH = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class QueueAddress:
    """A queue's URL, asked for by name once."""

    def __init__(self, client: AwsClient, name: str) -> None:
        self.name = name
        self._client = client
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Return the URL. Raises the vendor's errors."""
        if self._url is None:
            self._url = str(self._client.get_queue_url(QueueName=self.name)["QueueUrl"])
        return self._url

    @contextmanager
    def translated(self, operation: str) -> Iterator[None]:
        """Tell a vendor's error as QueueUnavailable, naming the queue."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            missing = isinstance(error, ClientError) and code_of(error).rpartition(".")[2] in MISSING
            way_out = "; no such queue here; make it with: salesintel deploy --apply" if missing else ""
            raise QueueUnavailable(f"{operation} of queue {self.name}: {told(error)}{way_out}") from error


class SqsEventQueue(EventQueue):
    """The queue `name`; a message stays with its receiver for `visibility_seconds` at first."""

    def __init__(self, client: AwsClient, name: str, visibility_seconds: int) -> None:
        self._client = client
        self._queue = QueueAddress(client, name)
        self._visibility_seconds = visibility_seconds

    def receive(self, most: int, wait_seconds: float) -> list[QueuedMessage]:
        """Return up to `most` messages, at most 10. Raises QueueUnavailable."""
        with self._queue.translated("receive"):
            answer = self._client.receive_message(
                QueueUrl=self._queue.url,
                MaxNumberOfMessages=min(most, BATCH_ENTRIES),
                WaitTimeSeconds=min(int(wait_seconds), MAX_WAIT_SECONDS),
                VisibilityTimeout=self._visibility_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        return [queued_message(found) for found in answer.get("Messages", ())]

    def extend(self, messages: Collection[QueuedMessage], seconds: int) -> tuple[QueuedMessage, ...]:
        """Keep the messages for `seconds` more; return those that were refused or are gone. Raises QueueUnavailable."""
        return self._in_batches(
            "extend",
            messages,
            lambda entries: self._client.change_message_visibility_batch(
                QueueUrl=self._queue.url,
                Entries=[{**entry, "VisibilityTimeout": seconds} for entry in entries],
            ),
        )

    def delete(self, messages: Collection[QueuedMessage]) -> tuple[QueuedMessage, ...]:
        """Delete the messages; return those that were refused. Raises QueueUnavailable."""
        return self._in_batches(
            "delete",
            messages,
            lambda entries: self._client.delete_message_batch(QueueUrl=self._queue.url, Entries=entries),
            but=GONE,
        )

    def depth(self) -> QueueDepth:
        """Return the queue's approximate numbers. Raises QueueUnavailable."""
        with self._queue.translated("look at the depth"):
            answer = self._client.get_queue_attributes(QueueUrl=self._queue.url, AttributeNames=list(_DEPTH))
        return QueueDepth(*(int(answer["Attributes"].get(name, 0)) for name in _DEPTH))

    def _in_batches(
        self,
        operation: str,
        messages: Collection[QueuedMessage],
        call: Callable[[list[dict[str, Any]]], dict[str, Any]],
        but: frozenset[str] = frozenset(),
    ) -> tuple[QueuedMessage, ...]:
        """Return those that the queue refused, `but` for these codes."""
        refused: list[QueuedMessage] = []
        for batch in _batches(messages):
            entries = [{"Id": str(number), "ReceiptHandle": one.handle} for number, one in enumerate(batch)]
            with self._queue.translated(operation):
                answer = call(entries)
            refused += [batch[int(one["Id"])] for one in answer.get("Failed", ()) if _code(one) not in but]
        return tuple(refused)


class SqsQuarantine(QuarantineQueue):
    """The queue `name`: a message's body as it came, the reason in its attributes."""

    def __init__(self, client: AwsClient, name: str) -> None:
        self._client = client
        self._queue = QueueAddress(client, name)

    def put(self, entries: Sequence[Quarantined]) -> None:
        """Send the messages. Raises QueueUnavailable where any of them was not kept."""
        for batch in sendable([_sent(entry) for entry in entries]):
            numbered = [{"Id": str(number), **entry} for number, entry in enumerate(batch)]
            with self._queue.translated("send"):
                answer = self._client.send_message_batch(QueueUrl=self._queue.url, Entries=numbered)
            if failed := answer.get("Failed", ()):
                codes = ", ".join(sorted({str(one.get("Code")) for one in failed}))
                raise QueueUnavailable(f"send of queue {self._queue.name}: {len(failed)} messages refused ({codes})")


def _code(failure: dict[str, Any]) -> str:
    return str(failure.get("Code", "")).rpartition(".")[2]


def queued_message(found: dict[str, Any]) -> QueuedMessage:
    """Return a received message; it was asked for with its receive count and time of sending."""
    attributes = found["Attributes"]
    return QueuedMessage(
        message_id=found["MessageId"],
        body=found["Body"],
        handle=found["ReceiptHandle"],
        receive_count=int(attributes["ApproximateReceiveCount"]),
        sent_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
    )


def _batches(messages: Collection[QueuedMessage]) -> Iterator[list[QueuedMessage]]:
    rest = iter(messages)
    while batch := list(islice(rest, BATCH_ENTRIES)):
        yield batch


def _sent(entry: Quarantined) -> dict[str, Any]:
    texts = {
        "code": entry.rejection.code,
        "field": entry.rejection.field,
        "value": entry.rejection.value,
        "rule": entry.rejection.rule,
        "messageId": entry.message.message_id,
        "sentAt": entry.message.sent_at.isoformat(),
        "tenantId": entry.tenant_id,
        "saleId": entry.sale_id,
        "payloadHash": entry.payload_hash,
        "heldHash": entry.held_hash,
    }
    attributes = {name: {"DataType": "String", "StringValue": _printable(text)} for name, text in texts.items() if text}
    return {"MessageBody": entry.message.body, "MessageAttributes": attributes}


def _printable(text: str) -> str:
    """Escape what SQS takes in no attribute: one odd id must not keep a message from its quarantine."""
    return text if text.isprintable() else repr(text)


def sendable(entries: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield batches that SQS takes: ten entries, a megabyte."""
    batch: list[dict[str, Any]] = []
    size = 0
    for entry in entries:
        bytes_here = _size(entry)
        if batch and (len(batch) == BATCH_ENTRIES or size + bytes_here > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += bytes_here
    if batch:
        yield batch


def _size(entry: dict[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    texts = [entry["MessageBody"], *(text for name, value in attributes for text in (name, *value.values()))]
    return sum(len(text.encode()) for text in texts)
